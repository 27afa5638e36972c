"""The database credentials from Secrets Manager: malformed secrets."""

from __future__ import annotations

import boto3
import pytest
from botocore.stub import Stubber

from whisper_processor.database.credentials import SecretCredentials
from whisper_processor.errors import TransientError


@pytest.mark.parametrize("answer", [{}, {"SecretString": '{"host": "db", "user'}, {"SecretString": "{}"}])
def test_an_answer_without_credentials_is_a_transient_error(answer: dict[str, str]) -> None:
    client = boto3.session.Session("test", "test", region_name="us-east-1").client("secretsmanager")
    with Stubber(client) as stub:
        stub.add_response("get_secret_value", answer)
        with pytest.raises(TransientError, match="secret database is malformed"):
            SecretCredentials(client, "database").get()
