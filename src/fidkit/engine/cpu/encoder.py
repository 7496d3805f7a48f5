"""Encoder layers on the CPU's native kernels."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fidkit.engine.cpu.layerwise import Layerwise
from fidkit.engine.cpu.products import LaidOut, Products, Rounding, address
from fidkit.native import Encoder, EncoderLayer, Kernels
from fidkit.nn.encoder import EncoderLayers
from fidkit.nn.families import bert
from fidkit.nn.families.bert import BertEncoderLayer, LayerNorm
from fidkit.nn.families.t5 import T5EncoderLayer
from fidkit.nn.layers import RMSNorm
from fidkit.nn.rows import Rows

# Vectors that go through all layers together: memory for their activations is that of a chunk, not of 40
# passages.
CHUNK = 2048


class NativeEncoder:
    """Runs encoder layers over ragged rows; a `fidkit.nn.encoder.Run`.

    Float32 goes through all layers in one call, bfloat16 product by product (`Layerwise`). Rows whose sides
    don't see each other, and layers of a family that these kernels don't suit, are left to the plain layers.

    Args:
        kernels: the compiled kernels.
        own: see `Products`.
        rounding: see `Products`; layers that are run together are rounded together.
    """

    def __init__(self, kernels: Kernels, *, own: bool = False, rounding: Rounding = "never") -> None:
        self.kernels = kernels
        self.products = Products(kernels, own=own, rounding=rounding)
        self._layerwise = Layerwise(kernels, self.products)
        self._prepared: dict[tuple[nn.Module, ...], _Prepared] = {}

    def __call__(
        self, layers: EncoderLayers, x_XD: Tensor, rows: Rows, norm: nn.Module | None = None
    ) -> Tensor:
        """Encode [X, D]; the same type comes back."""
        if layers.kernels is None or not layers.layers or not len(x_XD) or rows.sides is not None:
            self.products.give_back(layers)
            return layers(x_XD, rows, norm)
        out = torch.empty_like(x_XD)
        for first, end, starts in chunks(rows):
            x, to = x_XD[first:end], out[first:end]
            if x.dtype == torch.float32:
                self._run(layers, to.copy_(x), starts, rows.longest, norm)
            else:
                self._layerwise(layers, x, starts, rows.longest, norm, to)
        return out

    def _run(
        self, layers: EncoderLayers, states_XD: Tensor, starts: Tensor, longest: int, norm: nn.Module | None
    ) -> None:
        prepared = self._prepare(layers)
        first, last = layers.layers[0], None if isinstance(norm, nn.Identity) else norm
        assert last is None or isinstance(last, RMSNorm | LayerNorm)
        bias = None if layers.relative_bias is None else layers.bias_by_distance(longest - 1)
        behind = isinstance(first, BertEncoderLayer)
        encoder = Encoder(
            states=states_XD.data_ptr(),
            starts=starts.data_ptr(),
            rows=len(starts) - 1,
            width=states_XD.shape[1],
            heads=first.attention.heads,
            head=first.attention.head_width,
            feed_forward=first.feed_forward.inner.out_features,
            reach=longest,
            layers=len(layers.layers),
            layer=prepared.layers,
            bias=address(bias),
            final_norm=None if last is None else address(last.weight),
            final_shift=address(last.bias) if isinstance(last, LayerNorm) else None,
            epsilon=bert.EPSILON if behind else first.attention_norm.epsilon,
            scale=first.attention.scale,
            norms_behind=behind,
        )
        self.kernels.encode(encoder, rounded=prepared.rounded)

    def _prepare(self, layers: EncoderLayers) -> _Prepared:
        key = tuple(layers.layers)
        found = self._prepared.get(key)
        if found is None:
            matrices = [_matrices(layer) for layer in layers.layers]
            weights = [{name: self.products.laid_out(of) for name, of in one.items()} for one in matrices]
            rounded = all(weight.rounded for one in weights for weight in one.values())
            if not rounded:
                weights = [
                    {name: self.products.laid_out(of, exactly=True) for name, of in one.items()}
                    for one in matrices
                ]
            array = (EncoderLayer * len(key))(
                *(_layer(layer, of) for layer, of in zip(layers.layers, weights, strict=True))
            )
            found = self._prepared[key] = _Prepared(array, weights, rounded)
        return found


@dataclass(frozen=True)
class _Prepared:
    """Layers as the kernels read them, with what they point to."""

    layers: ctypes.Array[EncoderLayer]
    weights: list[dict[str, LaidOut]]
    rounded: bool


def _matrices(layer: nn.Module) -> dict[str, tuple[nn.Linear, ...]]:
    assert isinstance(layer, T5EncoderLayer | BertEncoderLayer)
    attention, block = layer.attention, layer.feed_forward
    found: dict[str, tuple[nn.Linear, ...]] = {
        "query_key_value": (attention.query, attention.key, attention.value),
        "out": (attention.out,),
        "inner": (block.inner,),
        "feed_forward_out": (block.out,),
    }
    if isinstance(layer, T5EncoderLayer) and layer.feed_forward.gate is not None:
        found["gate"] = (layer.feed_forward.gate,)
    return found


def _layer(layer: nn.Module, weights: dict[str, LaidOut]) -> EncoderLayer:
    assert isinstance(layer, T5EncoderLayer | BertEncoderLayer)
    found = EncoderLayer(
        **{name: weight.packed() for name, weight in weights.items()},
        attention_norm=address(layer.attention_norm.weight),
        feed_forward_norm=address(layer.feed_forward_norm.weight),
    )
    if isinstance(layer, BertEncoderLayer):
        found.attention_shift = address(layer.attention_norm.bias)
        found.feed_forward_shift = address(layer.feed_forward_norm.bias)
    return found


def chunks(rows: Rows) -> Iterator[tuple[int, int, Tensor]]:
    """Whole rows of about `CHUNK` vectors together: first vector, end, and where rows begin in between."""
    starts = rows.starts.tolist()
    begin = 0
    for row in range(1, len(starts)):
        last = row + 1 == len(starts)
        if last or starts[row + 1] - starts[begin] > CHUNK:
            yield starts[begin], starts[row], rows.starts[begin : row + 1] - starts[begin]
            begin = row
