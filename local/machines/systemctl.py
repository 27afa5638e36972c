"""`systemctl` on a process machine. It knows one unit, and refuses anything else."""

from __future__ import annotations

import sys
from pathlib import Path

from contracts.names import SERVICE
from local.platform.channel import ChannelError, ask

_VERBS = ("start", "stop", "restart", "is-active", "status")
_TIMEOUT_SECONDS = 600.0


def main(folder: Path, arguments: list[str]) -> int:
    words = [word for word in arguments if not word.startswith("-")]
    match words:
        case [verb, unit] if verb in _VERBS and unit.removesuffix(".service") == SERVICE:
            pass
        case _:
            sys.stderr.write(
                f"this machine is a process: its systemctl knows {'|'.join(_VERBS)} of {SERVICE} only\n"
            )
            return 1
    try:
        answer = ask(folder, {"verb": verb}, _TIMEOUT_SECONDS)
    except ChannelError as error:
        sys.stderr.write(f"systemctl: {error}\n")
        return 1
    (sys.stdout if answer["code"] in {0, 3} else sys.stderr).write(answer["text"])
    return int(answer["code"])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
