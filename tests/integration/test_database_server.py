"""The private database beside others on the same machine."""

from __future__ import annotations

from local.platform.mariadb import MariaDB


def test_no_two_servers_share_a_folder_for_temporary_tables(database_server: MariaDB) -> None:
    """A starting server removes what it takes for left over, and broke the start of another one."""
    server = database_server.service.process()
    assert server is not None
    assert server.environ()["TMPDIR"].startswith(f"{database_server.root}/")
