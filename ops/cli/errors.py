"""Error messages and exit codes."""

from __future__ import annotations

import sys

import pymysql
import typer
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
    SSOError,
)
from pydantic import ValidationError

from ops.errors import OpsError
from ops.settings import Cloud, OpsSettings

_REFUSED_CREDENTIALS = {
    *("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"),
    *("AuthFailure", "SignatureDoesNotMatch", "InvalidAccessKeyId", "RequestExpired"),
}


def explain(error: Exception, settings: OpsSettings | None) -> str:  # noqa: PLR0911 - one line each
    """Explain the error in one line: what is wrong, and what to do."""
    local = settings is None or settings.cloud is Cloud.LOCAL
    match error:
        case EndpointConnectionError() | ConnectTimeoutError() if local:
            return "the local cloud is not up: run `make up`"
        case EndpointConnectionError() | ConnectTimeoutError():
            return f"AWS cannot be reached; is AWS_REGION right? ({error})"
        case SSLError() if local:
            return "the local cloud's TLS does not fit: was it started with the same LOCAL_AUTH? `make down up`"
        case NoCredentialsError():
            return "no AWS credentials: set AWS_PROFILE in .env or log in"
        case PartialCredentialsError() | SSOError() | CredentialRetrievalError():
            return f"the AWS credentials cannot be used: {error}; log in again"
        case ProfileNotFound():
            return f"{error}: correct AWS_PROFILE in .env"
        case NoRegionError():
            return "no AWS region: set AWS_REGION in .env"
        case pymysql.MySQLError() if local:
            return f"the local database does not answer: run `make up` ({error.args[-1]})"
        case pymysql.MySQLError():
            return f"the database does not answer; is this machine let in? ({error.args[-1]})"
        case ClientError() if error.response["Error"]["Code"] in _REFUSED_CREDENTIALS:
            return f"AWS refuses the credentials, they are wrong or expired: log in again ({error.operation_name})"
        case ClientError():
            return f"AWS refused {error.operation_name}: {error.response['Error'].get('Message', error)}"
        case ValidationError():
            return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return " ".join(str(error).split())


def run(application: typer.Typer) -> int:
    """Run a command line. An error that an operator can correct becomes one line and exit code 1."""
    settings: OpsSettings | None = None
    try:
        settings = OpsSettings()
        application()
    except (OpsError, BotoCoreError, ClientError, pymysql.MySQLError, ValidationError) as error:
        sys.stderr.write(f"error: {explain(error, settings)}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
