"""whisper.cpp's weights from OpenAI's own `.pt`: the same numbers in the layout whisper.cpp reads.

The layout is that of whisper.cpp's `models/convert-pt-to-ggml.py`: the magic, eleven numbers, the mel filters, the
vocabulary as bytes in order of rank, then each tensor with its shape reversed (ggml counts the fastest axis
first).
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_MAGIC = 0x67676D6C
_FLOAT32, _FLOAT16 = 0, 1
_SIZES = (
    *("n_vocab", "n_audio_ctx", "n_audio_state", "n_audio_head", "n_audio_layer"),
    *("n_text_ctx", "n_text_state", "n_text_head", "n_text_layer", "n_mels"),
)
# Added to float32 activations by ggml as they are; the weights of matrix products may be float16.
_KEPT_FLOAT32 = {"encoder.positional_embedding", "decoder.positional_embedding"}
_MULTILINGUAL_VOCABULARY = 51865

Tensor = NDArray[Any]


def make(source: Path, target: Path) -> Path:
    """Write float16 ggml weights to `target` from openai-whisper's `source`, unless they are there already."""
    import torch  # noqa: PLC0415 - slow to import, and needed once

    if not target.exists():
        checkpoint = torch.load(source, map_location="cpu", weights_only=True)
        state = {name: tensor.numpy() for name, tensor in checkpoint["model_state_dict"].items()}
        dims: dict[str, int] = checkpoint["dims"]
        vocabulary, filters = _assets(dims)
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(".part")
        with unfinished.open("wb") as file:
            write(file, dims, filters, vocabulary, state)
        unfinished.replace(target)
    return target


def write(
    file: BinaryIO, dims: Mapping[str, int], filters: Tensor, vocabulary: list[bytes], state: Mapping[str, Tensor]
) -> None:
    """The whole file. `filters` has shape (mel bands, frequencies); `vocabulary` is in order of rank."""
    file.write(struct.pack("<12i", _MAGIC, *(dims[name] for name in _SIZES), _FLOAT16))
    file.write(struct.pack("<2i", *filters.shape))
    file.write(filters.astype("<f4").tobytes())
    file.write(struct.pack("<i", len(vocabulary)))
    for token in vocabulary:
        file.write(struct.pack("<i", len(token)) + token)
    for name, tensor in state.items():
        _write_tensor(file, name, tensor)


def _write_tensor(file: BinaryIO, name: str, tensor: Tensor) -> None:
    values = tensor.squeeze()
    if name.startswith("encoder.conv") and name.endswith(".bias"):
        values = values.reshape(-1, 1)  # broadcast over time
    half = values.ndim >= 2 and name not in _KEPT_FLOAT32 and not name.endswith(".bias")
    encoded = name.encode()
    kind = _FLOAT16 if half else _FLOAT32
    file.write(struct.pack("<3i", values.ndim, len(encoded), kind))
    file.write(struct.pack(f"<{values.ndim}i", *reversed(values.shape)))
    file.write(encoded)
    file.write(values.astype("<f2" if half else "<f4").tobytes())


def _assets(dims: Mapping[str, int]) -> tuple[list[bytes], Tensor]:
    """Vocabulary and mel filters, from openai-whisper's own files."""
    assets = files("whisper") / "assets"
    name = "multilingual" if dims["n_vocab"] >= _MULTILINGUAL_VOCABULARY else "gpt2"
    ranked = dict(line.split() for line in (assets / f"{name}.tiktoken").read_bytes().splitlines() if line)
    vocabulary = [base64.b64decode(token) for token in sorted(ranked, key=lambda token: int(ranked[token]))]
    with (assets / "mel_filters.npz").open("rb") as file, np.load(file) as found:
        return vocabulary, found[f"mel_{dims['n_mels']}"]
