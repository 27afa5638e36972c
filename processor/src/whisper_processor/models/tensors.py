"""The weights in a CTranslate2 `model.bin`, in version 6 of the binary layout that its `ModelSpec` writes."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[Any]]
_BINARY_VERSION = 6
_DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def read_tensors(weights: Path, prefix: str = "") -> Tensors:
    """A CTranslate2 model's variables, by name, for names with `prefix`. Raises ValueError for other layouts."""
    with weights.open("rb") as file:
        version = _unpack(file, "I")
        if version != _BINARY_VERSION:
            raise ValueError(f"{weights} has binary version {version}, not {_BINARY_VERSION}")
        _text(file)  # the spec's name
        _unpack(file, "I")  # and its revision
        tensors: Tensors = {}
        for _ in range(_unpack(file, "I")):
            name = _text(file)
            shape = [_unpack(file, "I") for _ in range(_unpack(file, "B"))]
            dtype = np.dtype(_DTYPES[_unpack(file, "B")])
            size = _unpack(file, "I")
            if name.startswith(prefix):
                tensors[name] = np.frombuffer(file.read(size), dtype).reshape(shape)
            else:
                file.seek(size, 1)
    return tensors


def _unpack(file: BinaryIO, kind: str) -> int:
    return int(struct.unpack(f"<{kind}", file.read(struct.calcsize(kind)))[0])


def _text(file: BinaryIO) -> str:
    return file.read(_unpack(file, "H")).rstrip(b"\0").decode()
