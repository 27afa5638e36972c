"""A private MariaDB in place of Aurora MySQL, with its own data, socket and port, run as the invoking user."""

from __future__ import annotations

import getpass
import json
import os
import secrets
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pymysql
import trustme
from pymysql.cursors import Cursor

from local.errors import LocalError
from local.platform.processes import Service

_DATABASE = "classreflect"
_USER = "whisper"
_NAMES = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class MariaDB:
    root: Path
    port: int

    @property
    def service(self) -> Service:
        return Service("mariadb", self.root / "run", self.root / "logs" / "mariadb.log")

    @property
    def _data(self) -> Path:
        return self.root / "mariadb"

    @property
    def _socket(self) -> Path:
        # A socket's path may have 107 bytes only; a deep checkout must not break it.
        return Path(f"/tmp/classreflect-{os.getuid()}-{self.port}.sock")  # noqa: S108

    @property
    def ca(self) -> Path:
        """The certificate authority that a client must trust, in place of RDS's bundle."""
        return self.root / "certificates" / "ca.pem"

    @property
    def _certificate(self) -> Path:
        """The server's certificate with its key, readable by its owner alone."""
        return self.root / "certificates" / "server.pem"

    @property
    def _credentials(self) -> Path:
        return self.root / "database.json"

    def credentials(self) -> dict[str, str | int]:
        """What RDS would keep in the secret. The password is made once and kept in a 0600 file."""
        if not self._credentials.exists():
            self.root.mkdir(parents=True, exist_ok=True)
            self._credentials.touch(mode=0o600)
            self._credentials.write_text(
                json.dumps(
                    {
                        "host": "127.0.0.1",
                        "port": self.port,
                        "username": _USER,
                        "password": secrets.token_urlsafe(24),
                        "dbname": _DATABASE,
                    }
                )
            )
        stored: dict[str, str | int] = json.loads(self._credentials.read_text())
        return stored | {"port": self.port}

    def start(self) -> None:
        """Make the data directory at the first start, run the server, make database and user. Safe to repeat."""
        if self.service.process() is None:
            self._install()
            self._certify()
            self._launch()
        self._make_user()

    def stop(self) -> bool:
        return self.service.stop(timeout=30)

    def _install(self) -> None:
        if (self._data / "mysql").exists():
            return
        shutil.rmtree(self._data, ignore_errors=True)  # what an interrupted first start left
        self._data.mkdir(mode=0o700, parents=True)
        installing = subprocess.run(
            [
                *(
                    "mariadb-install-db",
                    "--no-defaults",
                    f"--datadir={self._data}",
                    f"--user={getpass.getuser()}",
                ),
                *("--auth-root-authentication-method=normal", "--skip-test-db"),
            ],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if installing.returncode != 0:
            raise LocalError(f"MariaDB's data directory could not be made: {installing.stderr.strip()[-300:]}")

    def _certify(self) -> None:
        if self._certificate.exists():
            return
        self.ca.parent.mkdir(mode=0o700, exist_ok=True)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca))
        self._certificate.touch(mode=0o600)
        authority.issue_cert(*_NAMES).private_key_and_cert_chain_pem.write_to_path(str(self._certificate))

    def _launch(self) -> None:
        server = shutil.which("mariadbd") or "/usr/sbin/mariadbd"
        argv = [
            *(server, "--no-defaults", f"--datadir={self._data}", f"--socket={self._socket}"),
            *(f"--port={self.port}", "--bind-address=127.0.0.1", "--skip-name-resolve"),
            *(f"--user={getpass.getuser()}", f"--pid-file={self._data / 'server.pid'}"),
            *(
                "--character-set-server=utf8mb4",
                "--innodb-buffer-pool-size=64M",
                "--default-time-zone=+00:00",
                f"--ssl-cert={self._certificate}",
                f"--ssl-key={self._certificate}",
            ),
        ]
        self.service.start(argv, self._environment())

    def _environment(self) -> dict[str, str]:
        """A TMPDIR of its own: a starting server deletes the temporary tables it finds, even another server's."""
        scratch = self.root / "mariadb-tmp"
        scratch.mkdir(mode=0o700, exist_ok=True)
        return {**os.environ, "TMPDIR": str(scratch)}

    def _connect_as_root(self) -> pymysql.Connection[Cursor] | None:
        with suppress(pymysql.OperationalError):
            return pymysql.connect(unix_socket=str(self._socket), user="root", autocommit=True)
        return None

    def _make_user(self) -> None:
        credentials = self.credentials()
        root = self.service.wait_for("MariaDB", self._connect_as_root)
        with root, root.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE IF NOT EXISTS {_DATABASE} CHARACTER SET utf8mb4")
            for host in ("127.0.0.1", "localhost"):
                cursor.execute(
                    f"CREATE OR REPLACE USER {_USER}@'{host}' IDENTIFIED BY %s REQUIRE SSL",
                    (credentials["password"],),
                )
                cursor.execute(f"GRANT ALL ON {_DATABASE}.* TO {_USER}@'{host}'")
