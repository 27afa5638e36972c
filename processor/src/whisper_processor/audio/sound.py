"""What a recording is to the engines: samples at Whisper's rate."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
"""Hz, mono: the only rate that Whisper's feature extractor accepts."""

Samples = NDArray[np.float32]
"""One channel at SAMPLE_RATE, amplitude -1 to 1."""


class Sound(Protocol):
    """Samples that may be on disk, where a slice is read when needed. An array is a Sound too."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Samples: ...
