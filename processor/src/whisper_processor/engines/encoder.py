"""Whisper's encoder as an OpenVINO graph, built from the weights that faster-whisper loads.

The layers are those of Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op

from whisper_processor.audio.sound import Samples
from whisper_processor.audio.speech import WINDOW_SECONDS
from whisper_processor.models.tensors import Tensors, read_tensors

_EPSILON = 1e-5


def encoder(weights: Path, *, int8: bool) -> ov.Model:
    """Maps a window's features (1, mels, frames) to states (1, positions, states).

    `int8` stores the linear layers' weights in 8 bits with one scale per output; OpenVINO then quantises their
    inputs dynamically. Raises ValueError for any layout but CTranslate2's.
    """
    return _Graph(read_tensors(weights, "encoder/"), int8).model()


class _Graph:
    def __init__(self, tensors: Tensors, int8: bool) -> None:
        self._tensors = tensors
        self._int8 = int8
        self._heads = int(tensors["encoder/num_heads"])
        self._states = tensors["encoder/conv1/weight"].shape[0]

    def model(self) -> ov.Model:
        mels = self._tensors["encoder/conv1/weight"].shape[1]
        features = op.parameter([1, mels, WINDOW_SECONDS * 100], np.float32, name="features")
        x = self._convolution(features, "encoder/conv1", 1)
        x = self._convolution(x, "encoder/conv2", 2)
        x = op.transpose(x, _numbers(0, 2, 1))
        x = op.add(x, self._tensor("encoder/position_encodings/encodings")[np.newaxis])
        number = 0
        while f"encoder/layer_{number}/ffn/linear_0/weight" in self._tensors:
            x = self._layer(x, f"encoder/layer_{number}")
            number += 1
        return ov.Model([op.result(self._norm(x, "encoder/layer_norm"))], [features], "whisper-encoder")

    def _layer(self, x: Any, name: str) -> Any:
        y = self._norm(x, f"{name}/self_attention/layer_norm")
        x = op.add(x, self._attention(y, f"{name}/self_attention"))
        y = self._linear(self._norm(x, f"{name}/ffn/layer_norm"), f"{name}/ffn/linear_0")
        return op.add(x, self._linear(op.gelu(y, "erf"), f"{name}/ffn/linear_1"))

    def _attention(self, x: Any, name: str) -> Any:
        # linear_0 is query, key and value in one
        weights = np.split(self._tensors[f"{name}/linear_0/weight"], 3)
        biases = np.split(self._tensor(f"{name}/linear_0/bias"), 3)
        query, key, value = (self._split_heads(self._times(x, w, b)) for w, b in zip(weights, biases, strict=True))
        y = op.transpose(op.scaled_dot_product_attention(query, key, value), _numbers(0, 2, 1, 3))
        return self._linear(op.reshape(y, _numbers(0, 0, self._states), True), f"{name}/linear_1")

    def _split_heads(self, x: Any) -> Any:
        shape = _numbers(0, 0, self._heads, self._states // self._heads)
        return op.transpose(op.reshape(x, shape, True), _numbers(0, 2, 1, 3))

    def _convolution(self, x: Any, name: str, stride: int) -> Any:
        y = op.convolution(x, self._tensor(f"{name}/weight"), [stride], [1], [1], [1])
        return op.gelu(op.add(y, self._tensor(f"{name}/bias").reshape(1, -1, 1)), "erf")

    def _norm(self, x: Any, name: str) -> Any:
        y = op.mvn(x, _numbers(-1), True, _EPSILON, "inside_sqrt")
        return op.add(op.multiply(y, self._tensor(f"{name}/gamma")), self._tensor(f"{name}/beta"))

    def _linear(self, x: Any, name: str) -> Any:
        return self._times(x, self._tensors[f"{name}/weight"], self._tensor(f"{name}/bias"))

    def _times(self, x: Any, weight: NDArray[Any], bias: Samples) -> Any:
        return op.add(op.matmul(x, self._weight(weight.astype(np.float32)), False, True), bias)

    def _weight(self, weight: Samples) -> Any:
        if not self._int8:
            return op.constant(weight)
        scale = np.maximum(np.abs(weight).max(axis=1, keepdims=True), 1e-9) / 127
        narrow = np.rint(weight / scale).astype(np.int8)
        return op.multiply(op.convert(op.constant(narrow), "f32"), op.constant(scale.astype(np.float32)))

    def _tensor(self, name: str) -> Samples:
        return self._tensors[name].astype(np.float32)


def _numbers(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)
