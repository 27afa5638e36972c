"""One connection to the database, and transactions that are retried while the database is unavailable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pymysql
from pymysql.constants import CLIENT, CR, ER
from pymysql.cursors import Cursor
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from whisper_processor.database.credentials import SecretCredentials
from whisper_processor.errors import PermanentError, TransientError
from whisper_processor.waiting import Tick, no_tick

T = TypeVar("T")

_REFUSED = {ER.ACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR}
_RETRYABLE = _REFUSED | {
    CR.CR_CONN_HOST_ERROR,
    CR.CR_CONNECTION_ERROR,
    CR.CR_SERVER_GONE_ERROR,
    CR.CR_SERVER_LOST,
    ER.LOCK_WAIT_TIMEOUT,
    ER.LOCK_DEADLOCK,
    ER.CON_COUNT_ERROR,
    ER.SERVER_SHUTDOWN,
    ER.OPTION_PREVENTS_STATEMENT,  # read-only: a failover is in progress
    1927,  # MariaDB: connection killed
}
_PATIENCE_SECONDS = 120.0  # an Aurora failover takes a minute or less


class Database:
    """Use it from one thread. It holds one connection and opens a new one when that is lost."""

    def __init__(
        self,
        credentials: SecretCredentials,
        *,
        ca: Path | None,
        patience_seconds: float = _PATIENCE_SECONDS,
        on_wait: Tick = no_tick,
    ) -> None:
        """`ca` is the bundle of certificates that must have signed the server's; with None the server is not
        verified. `on_wait` is called before each retry; an exception it raises ends the retries."""
        self._credentials = credentials
        self._ca = ca
        self._patience = patience_seconds
        self._on_wait = on_wait
        self._connection: pymysql.Connection[Cursor] | None = None

    def transaction(self, work: Callable[[Cursor], T], patience_seconds: float | None = None) -> T:
        """Run `work` in one transaction; retry on a new connection while the database is unavailable.

        Retrying is safe: a transaction whose commit was not confirmed either changed nothing or is found to be
        complete. Raises TransientError once patience runs out, PermanentError for values the database rejects.
        """
        attempts = Retrying(
            retry=retry_if_exception(_is_retryable),
            stop=stop_after_delay(self._patience if patience_seconds is None else patience_seconds),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            before_sleep=self._before_sleep,
            reraise=True,
        )
        try:
            result: T = attempts(self._once, work)
            return result
        except (pymysql.err.DataError, pymysql.err.IntegrityError) as error:
            raise PermanentError(f"The database does not take the values of this job: {error.args[-1]}") from error
        except pymysql.MySQLError as error:
            raise TransientError(f"database: {error}") from error

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and connection.open:
            try:
                connection.close()
            except pymysql.MySQLError:  # already gone
                return

    def _before_sleep(self, _state: RetryCallState) -> None:
        self._on_wait()

    def _once(self, work: Callable[[Cursor], T]) -> T:
        try:
            connection = self._connected()
            with connection.cursor() as cursor:
                connection.begin()
                result = work(cursor)
                connection.commit()
                return result
        except BaseException:
            self.close()
            raise

    def _connected(self) -> pymysql.Connection[Cursor]:
        if self._connection is None:
            credentials = self._credentials.get()
            try:
                self._connection = pymysql.connect(
                    host=credentials.host,
                    port=credentials.port,
                    user=credentials.username,
                    password=credentials.password,
                    database=credentials.dbname,
                    charset="utf8mb4",
                    autocommit=False,
                    connect_timeout=10,
                    read_timeout=30,
                    write_timeout=30,
                    client_flag=CLIENT.FOUND_ROWS,
                    ssl_ca=str(self._ca) if self._ca else None,
                    ssl_verify_identity=True if self._ca else None,
                )
            except pymysql.OperationalError as error:
                if error.args[0] in _REFUSED:
                    self._credentials.forget()
                raise
        return self._connection


def _is_retryable(error: BaseException) -> bool:
    if isinstance(error, pymysql.err.InterfaceError):
        return True
    return isinstance(error, pymysql.MySQLError) and bool(error.args) and error.args[0] in _RETRYABLE
