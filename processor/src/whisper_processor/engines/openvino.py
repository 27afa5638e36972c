"""OpenVINO's encoder in front of CTranslate2's decoder, both from the files that faster-whisper loads.

CTranslate2's own encoder takes more than half of the time; decision 0016 has the measurements.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openvino as ov

from whisper_processor.audio.sound import Samples
from whisper_processor.engines.choice import Precision, precision, this_cpu
from whisper_processor.engines.cores import Lanes, lanes_for
from whisper_processor.engines.encoder import encoder
from whisper_processor.engines.windowed import Windowed

_GROUP = 32
"""Inputs that share a scale in dynamic quantisation (int8)."""


class OpenVINO(Windowed):
    def __init__(self, model: Path, threads: int) -> None:
        lanes = lanes_for(threads)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="load") as loader:
            encoder = loader.submit(Encoder, model / "model.bin", lanes, precision(this_cpu()))
            super().__init__(model, lanes)
            self._encoder = encoder.result()

    def _states(self, features: Sequence[Samples]) -> Iterable[Samples]:
        return map(self._encoder, features)


class Encoder:
    """Callable from several threads: each has its own inference request, and OpenVINO a stream for each."""

    def __init__(self, weights: Path, lanes: Lanes, multiply_in: Precision) -> None:
        int8 = multiply_in is Precision.INT8
        settings = {
            "INFERENCE_PRECISION_HINT": str(Precision.F32 if int8 else multiply_in),
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(_GROUP if int8 else 0),
            "NUM_STREAMS": str(lanes.count),
            "INFERENCE_NUM_THREADS": str(lanes.count * lanes.threads),
            "ENABLE_CPU_PINNING": "NO",  # CTranslate2's threads use the same cores
        }
        self._compiled = ov.Core().compile_model(encoder(weights, int8=int8), "CPU", settings)
        self._own = threading.local()

    def __call__(self, features: Samples) -> Samples:
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        request = self._own.request
        request.infer({0: features[None]})
        states: Samples = request.get_output_tensor().data[0].copy()
        return states
