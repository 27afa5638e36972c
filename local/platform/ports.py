"""Ports for the servers this machine starts for itself."""

from __future__ import annotations

import random
import socket

from local.errors import LocalError

_RANGE = range(15000, 32000)
"""Below the ephemeral ports, one of which any outgoing connection may take."""
_claims: dict[int, socket.socket] = {}


def free_port() -> int:
    """A loopback port that nothing listens on. It belongs to this process until the process exits.

    Processes that draw at the same moment, such as parallel tests, never draw the same port: each claims its port
    by binding an abstract Unix socket of that name, and the kernel drops the claim with the process.
    """
    start = random.SystemRandom().randrange(len(_RANGE))
    for step in range(len(_RANGE)):
        port = _RANGE[(start + step) % len(_RANGE)]
        if _claim(port):
            return port
    raise LocalError(f"no port from {_RANGE.start} to {_RANGE.stop - 1} is free")


def _claim(port: int) -> bool:
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0classreflect-port-{port}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    except OSError:
        claim.close()
        return False
    _claims[port] = claim
    return True
