"""whisper.cpp in a process of its own, run by the Python of `.local/bench-venv`: REQUEST ANSWER, both JSON files.

It takes samples, so ffmpeg decodes for it, within the time that is measured, as openai-whisper has it done.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path


def main(request: Path, answer: Path) -> None:
    import numpy as np  # noqa: PLC0415 - of the other environment
    from pywhispercpp.model import Model  # noqa: PLC0415

    asked = json.loads(request.read_text())
    started = time.monotonic()
    model = Model(asked["model"], redirect_whispercpp_logs_to=None, print_progress=False)
    loaded = time.monotonic()
    first: list[float] = []
    decoding = ["ffmpeg", "-nostdin", "-v", "error", "-i", asked["audio"]]
    to_samples = ["-ac", "1", "-ar", "16000", "-f", "s16le", "-"]
    raw = subprocess.run([*decoding, *to_samples], stdout=subprocess.PIPE, check=True).stdout
    samples = np.frombuffer(raw, "<i2").astype(np.float32) / 32768
    # Its defaults, but for the language, which it would take to be English without listening.
    segments = model.transcribe(
        samples, language="auto", new_segment_callback=lambda _segment: first.append(time.monotonic())
    )
    ended = time.monotonic()
    document = {
        "text": " ".join(segment.text for segment in segments),
        "load_seconds": loaded - started,
        "wall_seconds": ended - loaded,
        "first_result_seconds": first[0] - loaded if first else None,
    }
    answer.write_text(json.dumps(document))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
