"""Convert faster-whisper's float16 weights back to the `.pt` file that openai-whisper loads, without loss.

CTranslate2 fuses the attention projections and renames the layers; the values are the vendor's float16.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from whisper_processor.models.tensors import Tensors, read_tensors


def convert(weights: Path, target: Path) -> None:
    """Write `target` (`.pt`) from a CTranslate2 `model.bin`. Raises ValueError for any other layout."""
    tensors = read_tensors(weights)
    state = dict(_renamed(tensors))
    audio_context, audio_state = state["encoder.positional_embedding"].shape
    text_context, text_state = state["decoder.positional_embedding"].shape
    dims = {
        "n_mels": state["encoder.conv1.weight"].shape[1],
        "n_audio_ctx": audio_context,
        "n_audio_state": audio_state,
        "n_audio_head": int(tensors["encoder/num_heads"]),
        "n_audio_layer": _layers(tensors, "encoder"),
        "n_vocab": state["decoder.token_embedding.weight"].shape[0],
        "n_text_ctx": text_context,
        "n_text_state": text_state,
        "n_text_head": int(tensors["decoder/num_heads"]),
        "n_text_layer": _layers(tensors, "decoder"),
    }
    model = {name: torch.from_numpy(value.copy()) for name, value in state.items()}
    torch.save({"dims": dims, "model_state_dict": model}, target)


def _layers(tensors: Tensors, side: str) -> int:
    return len(
        {
            name.split("/")[1]
            for name in tensors
            if name.startswith(f"{side}/layer_") and "_norm" not in name.split("/")[1]
        }
    )


def _renamed(tensors: Tensors) -> Iterator[tuple[str, NDArray[Any]]]:
    for conv in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            yield f"encoder.{conv}.{part}", tensors[f"encoder/{conv}/{part}"]
    yield "encoder.positional_embedding", tensors["encoder/position_encodings/encodings"]
    yield "decoder.positional_embedding", tensors["decoder/position_encodings/encodings"]
    yield "decoder.token_embedding.weight", tensors["decoder/embeddings/weight"]
    yield from _norm(tensors, "encoder/layer_norm", "encoder.ln_post")
    yield from _norm(tensors, "decoder/layer_norm", "decoder.ln")
    for side in ("encoder", "decoder"):
        for layer in range(_layers(tensors, side)):
            ours, theirs = f"{side}/layer_{layer}", f"{side}.blocks.{layer}"
            yield from _self_attention(tensors, f"{ours}/self_attention", f"{theirs}.attn")
            if side == "decoder":
                yield from _cross_attention(tensors, f"{ours}/attention", f"{theirs}.cross_attn")
            yield from _norm(tensors, f"{ours}/ffn/layer_norm", f"{theirs}.mlp_ln")
            yield from _linear(tensors, f"{ours}/ffn/linear_0", f"{theirs}.mlp.0")
            yield from _linear(tensors, f"{ours}/ffn/linear_1", f"{theirs}.mlp.2")


def _self_attention(tensors: Tensors, ours: str, theirs: str) -> Iterator[tuple[str, NDArray[Any]]]:
    """linear_0 holds query, key and value. The key's bias is zero there; Whisper has none."""
    yield from _norm(tensors, f"{ours}/layer_norm", f"{theirs}_ln")
    query, key, value = np.split(tensors[f"{ours}/linear_0/weight"], 3)
    query_bias, _, value_bias = np.split(tensors[f"{ours}/linear_0/bias"], 3)
    yield from _projections(theirs, (query, query_bias), key, (value, value_bias))
    yield from _linear(tensors, f"{ours}/linear_1", f"{theirs}.out")


def _cross_attention(tensors: Tensors, ours: str, theirs: str) -> Iterator[tuple[str, NDArray[Any]]]:
    """linear_0 is the query; linear_1 holds key and value."""
    yield from _norm(tensors, f"{ours}/layer_norm", f"{theirs}_ln")
    query, query_bias = tensors[f"{ours}/linear_0/weight"], tensors[f"{ours}/linear_0/bias"]
    key, value = np.split(tensors[f"{ours}/linear_1/weight"], 2)
    _, value_bias = np.split(tensors[f"{ours}/linear_1/bias"], 2)
    yield from _projections(theirs, (query, query_bias), key, (value, value_bias))
    yield from _linear(tensors, f"{ours}/linear_2", f"{theirs}.out")


def _projections(
    theirs: str,
    query: tuple[NDArray[Any], NDArray[Any]],
    key: NDArray[Any],
    value: tuple[NDArray[Any], NDArray[Any]],
) -> Iterator[tuple[str, NDArray[Any]]]:
    yield f"{theirs}.query.weight", query[0]
    yield f"{theirs}.query.bias", query[1]
    yield f"{theirs}.key.weight", key
    yield f"{theirs}.value.weight", value[0]
    yield f"{theirs}.value.bias", value[1]


def _linear(tensors: Tensors, ours: str, theirs: str) -> Iterator[tuple[str, NDArray[Any]]]:
    for part in ("weight", "bias"):
        yield f"{theirs}.{part}", tensors[f"{ours}/{part}"]


def _norm(tensors: Tensors, ours: str, theirs: str) -> Iterator[tuple[str, NDArray[Any]]]:
    yield f"{theirs}.weight", tensors[f"{ours}/gamma"]
    yield f"{theirs}.bias", tensors[f"{ours}/beta"]
