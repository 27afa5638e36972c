"""A network namespace for one machine. It reaches only what is put there; there is no route out.

Listening sockets are made inside the namespace and served from outside. So the metadata service answers at its
true address, and what binds this host's loopback (emulator, database) is found at the machine's own loopback.
No address, route or firewall rule of this host is touched.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from local.errors import LocalError

METADATA_ADDRESS = "169.254.169.254"
PREFIX = "whisper-"
_NAMESPACES = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_CHUNK = 1 << 16


class Network:
    """`name` begins with PREFIX, so that `leftovers` finds what a crash leaves."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = _NAMESPACES / name
        _ip("netns", "add", name)
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "address", "add", f"{METADATA_ADDRESS}/32", "dev", "lo")
        self._relays: list[Relay] = []

    def listen(self, address: str, port: int) -> socket.socket:
        """A listening socket inside the namespace."""

        def make() -> socket.socket:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(64)
            return listener

        return self._inside(make)

    def bring_in(self, port: int) -> None:
        """Give the machine what this host has on 127.0.0.1:port, at the same address."""
        self._relays.append(Relay(self.listen("127.0.0.1", port), lambda: _connect(port)))

    def let_in(self, port: int) -> int:
        """Give this host the machine's 127.0.0.1:port, on a free port of its own loopback. Returns that port."""
        listener = socket.create_server(("127.0.0.1", 0))
        self._relays.append(Relay(listener, lambda: self._inside(lambda: _connect(port))))
        return int(listener.getsockname()[1])

    def close(self) -> None:
        for relay in self._relays:
            relay.close()
        delete(self.name)

    def _inside(self, action: Callable[[], socket.socket]) -> socket.socket:
        """Run `action` on a thread inside the namespace. Sockets stay in the namespace they were made in."""
        made: list[socket.socket] = []
        failed: list[OSError] = []

        def run() -> None:
            try:
                _enter(self.path)
                made.append(action())
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return made[0]


def _enter(namespace: Path) -> None:
    """For the calling thread alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(namespace, os.O_RDONLY)
    try:
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(namespace))
    finally:
        os.close(descriptor)


def leftovers(prefix: str) -> list[str]:
    return sorted(path.name for path in _NAMESPACES.glob(f"{prefix}*")) if _NAMESPACES.is_dir() else []


def delete(name: str) -> None:
    with suppress(LocalError):  # it is gone
        _ip("netns", "delete", name)


class Relay:
    """Copies bytes between each client of `listener` and what `connect` opens."""

    def __init__(self, listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
        self._listener = listener
        self._connect = connect
        threading.Thread(target=self._accept, name="relay", daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                inner, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(inner,), daemon=True).start()

    def _serve(self, inner: socket.socket) -> None:
        try:
            outer = self._connect()
        except OSError:
            inner.close()
            return
        back = threading.Thread(target=_copy, args=(outer, inner), daemon=True)
        back.start()
        _copy(inner, outer)
        back.join()
        inner.close()
        outer.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=None)


def _ip(*arguments: str) -> None:
    result = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise LocalError(f"ip {' '.join(arguments)}: {result.stderr.strip()}")
