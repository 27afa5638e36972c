"""A Unix socket in the cloud's folder, through which the emulator and a machine's commands reach the supervisor.

Requests and answers are one line of JSON each. Only the invoking user may use the socket (0600). This module
imports the standard library only, because the emulator, which has an environment of its own, imports it.
"""

from __future__ import annotations

import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

SOCKET_NAME = "channel.sock"
Message = dict[str, Any]
Answer = Callable[[Message], Message]


class ChannelError(Exception):
    """The supervisor does not answer, or refused. The message says which."""


def ask(folder: Path, message: Message, timeout: float) -> Message:
    """Send one request and wait for its answer. Raises ChannelError."""
    try:
        with _reachable(folder) as path, socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(path)
            connection.sendall(json.dumps(message).encode() + b"\n")
            with connection.makefile("rb") as answers:
                line = answers.readline()
    except OSError as error:
        raise ChannelError(f"the supervisor does not answer: {error}") from error
    if not line:
        raise ChannelError("the supervisor hung up")
    answer: Message = json.loads(line)
    if "error" in answer:
        raise ChannelError(answer["error"])
    return answer


class ChannelServer:
    """Answers until closed, each request in a thread of its own."""

    def __init__(self, folder: Path, answer: Answer) -> None:
        (folder / SOCKET_NAME).unlink(missing_ok=True)  # what a killed supervisor left
        with _reachable(folder) as path:
            before = os.umask(0o177)
            try:
                self._server = _Server(path, _handler(answer))
            finally:
                os.umask(before)
        self._path = folder / SOCKET_NAME
        threading.Thread(target=self._server.serve_forever, name="channel", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._path.unlink(missing_ok=True)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


def _handler(answer: Answer) -> type[socketserver.StreamRequestHandler]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            try:
                reply = answer(json.loads(self.rfile.readline()))
            except (KeyError, ValueError, ChannelError) as error:
                reply = {"error": str(error) or type(error).__name__}
            with suppress(BrokenPipeError):  # the client did not wait
                self.wfile.write(json.dumps(reply).encode() + b"\n")

    return Handler


@contextmanager
def _reachable(folder: Path) -> Iterator[str]:
    """The socket's path through an open directory. A socket's address may have 107 bytes only."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{SOCKET_NAME}"
    finally:
        os.close(directory)
