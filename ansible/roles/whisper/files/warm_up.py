"""Transcribe a sample with each installed model; what they heard goes into the marker file.

OpenVINO has no files of its own, and its graph comes with the release: here it has to find the CPU.

Usage: warm_up.py MODELS_DIR SAMPLE MARKER. It needs the engines alone, so it runs before there is a release.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def faster_whisper(model: Path, sample: str) -> str:
    from faster_whisper import WhisperModel  # noqa: PLC0415 - each engine loads libraries of its own

    segments, _ = WhisperModel(str(model), device="cpu", compute_type="int8").transcribe(sample, beam_size=1)
    return " ".join(segment.text.strip() for segment in segments)


def openai_whisper(model: Path, sample: str) -> str:
    import whisper  # noqa: PLC0415

    loaded = whisper.load_model(str(model / f"{model.name}.pt"), device="cpu")
    return str(loaded.transcribe(sample, fp16=False)["text"]).strip()


ENGINES = {"faster-whisper": faster_whisper, "openai-whisper": openai_whisper}


def has_openvino() -> bool:
    import openvino  # noqa: PLC0415

    return "CPU" in openvino.Core().available_devices


def main(models_dir: Path, sample: str, marker: Path) -> int:
    if not has_openvino():
        sys.stderr.write("OpenVINO does not find the CPU\n")
        return 1
    heard = {}
    for verified in sorted(models_dir.glob("*/*/verified.json")):
        model = verified.parent
        name = f"{model.parent.name}/{model.name}"
        heard[name] = ENGINES[model.parent.name](model, sample)
        if not heard[name]:
            sys.stderr.write(f"{name} heard nothing in {sample}\n")
            return 1
    marker.write_text(json.dumps(heard, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
