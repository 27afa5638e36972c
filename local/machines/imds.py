"""The instance metadata service of one local instance: IMDSv2 only, on a loopback port.

Serves what the processor and the AWS SDK ask for: identity, the instance role's credentials, Spot notices.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import boto3

_ROLE = "classreflect-whisper-instance"


@dataclass(frozen=True)
class Identity:
    instance_id: str
    instance_type: str
    image_id: str
    region: str


def role_credentials(
    session: boto3.session.Session, profile: str, session_name: str, endpoint: str | None = None
) -> dict[str, str]:
    """The credentials of the profile's role, in the metadata service's format.

    `endpoint` is the cloud to ask; None for the one that the environment names.
    """
    iam, sts = session.client("iam", endpoint_url=endpoint), session.client("sts", endpoint_url=endpoint)
    role = iam.get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]["Roles"][0]
    answer = sts.assume_role(RoleArn=role["Arn"], RoleSessionName=session_name)
    keys = answer["Credentials"]
    return {
        "Code": "Success",
        "Type": "AWS-HMAC",
        "LastUpdated": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "AccessKeyId": keys["AccessKeyId"],
        "SecretAccessKey": keys["SecretAccessKey"],
        "Token": keys["SessionToken"],
        "Expiration": keys["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


class MetadataServer:
    """Serves one instance until closed.

    `credentials` returns the role's in IMDS's format, `tags` and `user_data` the instance's. `spot_notice` is a
    file that is served as the Spot interruption notice once it exists. `lifecycle` is the state that its
    Auto Scaling group wants, such as `InService`, or None outside a group.
    """

    def __init__(
        self,
        identity: Identity,
        credentials: Callable[[], dict[str, str]],
        spot_notice: Path,
        tags: Callable[[], dict[str, str]] = dict,
        user_data: Callable[[], str | None] = lambda: None,
        lifecycle: Callable[[], str | None] = lambda: None,
        listener: socket.socket | None = None,
    ) -> None:
        self._token = secrets.token_urlsafe(32)
        handler = self._handler(identity, credentials, spot_notice, tags, user_data, lifecycle)
        if listener is None:
            self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        else:  # a machine with a network of its own has it at its true address
            self._server = ThreadingHTTPServer(listener.getsockname(), handler, bind_and_activate=False)
            self._server.socket.close()
            self._server.socket = listener
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(
        self,
        identity: Identity,
        credentials: Callable[[], dict[str, str]],
        spot_notice: Path,
        tags: Callable[[], dict[str, str]],
        user_data: Callable[[], str | None],
        lifecycle: Callable[[], str | None],
    ) -> type[BaseHTTPRequestHandler]:
        token = self._token
        tags_path = "/latest/meta-data/tags/instance/"
        lifecycle_path = "/latest/meta-data/autoscaling/target-lifecycle-state"
        role_path = "/latest/meta-data/iam/security-credentials/"
        fixed = {
            "/latest/meta-data/instance-id": identity.instance_id,
            "/latest/meta-data/instance-type": identity.instance_type,
            "/latest/meta-data/ami-id": identity.image_id,
            "/latest/meta-data/placement/region": identity.region,
            "/latest/meta-data/placement/availability-zone": f"{identity.region}a",
            "/latest/dynamic/instance-identity/document": json.dumps(
                {"instanceId": identity.instance_id, "region": identity.region}
            ),
            role_path.rstrip("/"): _ROLE,
            role_path: _ROLE,
        }

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                if self.path == "/latest/api/token":
                    ttl = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "21600")
                    self._answer(200, token, {"X-aws-ec2-metadata-token-ttl-seconds": ttl})
                else:
                    self._answer(404, "")

            def do_GET(self) -> None:
                if self.headers.get("X-aws-ec2-metadata-token") != token:
                    self._answer(401, "")
                elif self.path in fixed:
                    self._answer(200, fixed[self.path])
                elif self.path == role_path + _ROLE:
                    self._answer(200, json.dumps(credentials()))
                elif self.path.startswith(tags_path) and (value := tags().get(self.path.removeprefix(tags_path))):
                    self._answer(200, value)
                elif self.path.rstrip("/") == "/latest/user-data" and (script := user_data()) is not None:
                    self._answer(200, script)
                elif self.path == lifecycle_path and (state := lifecycle()) is not None:
                    self._answer(200, state)
                elif self.path == "/latest/meta-data/spot/instance-action" and spot_notice.exists():
                    self._answer(200, spot_notice.read_text())
                else:
                    self._answer(404, "")

            def _answer(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing: there is a request every few seconds."""

        return Handler
