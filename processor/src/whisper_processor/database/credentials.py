"""The database credentials from Secrets Manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel, ValidationError

from whisper_processor.errors import TransientError

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient


class Credentials(BaseModel):
    """The secret's JSON, in the format RDS itself writes."""

    host: str
    port: int = 3306
    username: str
    password: str
    dbname: str


class SecretCredentials:
    """Reads the secret once and caches it until the database refuses the password (rotation)."""

    def __init__(self, client: SecretsManagerClient, secret: str) -> None:
        self._client = client
        self._secret = secret
        self._cached: Credentials | None = None

    def get(self) -> Credentials:
        """Raises TransientError when the secret cannot be read or is malformed."""
        if self._cached is None:
            try:
                # A truncated response arrives without a SecretString.
                text = self._client.get_secret_value(SecretId=self._secret).get("SecretString", "")
                self._cached = Credentials.model_validate_json(text)
            except (BotoCoreError, ClientError) as error:
                raise TransientError(f"secret {self._secret} cannot be read: {error}") from error
            except ValidationError as error:
                fields = ", ".join(".".join(map(str, e["loc"])) for e in error.errors())
                raise TransientError(f"secret {self._secret} is malformed: {fields}") from None
        return self._cached

    def forget(self) -> None:
        """Read the secret again next time."""
        self._cached = None
