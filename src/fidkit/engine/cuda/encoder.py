"""Encoder layers on a GPU: ragged rows without padding, and fused kernels between the products."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fidkit.engine.cuda.fused import PLAIN, Functions
from fidkit.engine.cuda.row_attention import Attend, Attention, prepare
from fidkit.nn.encoder import EncoderLayers
from fidkit.nn.families.t5 import T5EncoderLayer
from fidkit.nn.layers import RMSNorm
from fidkit.nn.rows import Rows


class CudaEncoder:
    """Runs encoder layers over ragged rows; a `fidkit.nn.encoder.Run`.

    Layers of a family that these kernels don't suit run as they are.

    Args:
        functions: what stands between products, compiled or not.
        attention: how rows attend to themselves.
        make_room: frees memory; False if there was none to free.
    """

    def __init__(
        self,
        functions: Functions = PLAIN,
        attention: Attention = "flex",
        make_room: Callable[[], bool] = lambda: False,
    ) -> None:
        self.functions, self.attention, self.make_room = functions, attention, make_room

    def __call__(
        self, layers: EncoderLayers, x_XD: Tensor, rows: Rows, norm: nn.Module | None = None
    ) -> Tensor:
        """Encode [X, D]; the same type comes back."""
        if layers.kernels != "t5" or not layers.layers or not len(x_XD):
            return layers(x_XD, rows, norm)
        assert norm is None or isinstance(norm, RMSNorm)
        try:
            return self._encode(layers, x_XD, rows, norm)
        except torch.OutOfMemoryError:
            if not self.make_room():
                raise
        return self._encode(layers, x_XD, rows, norm)

    def _encode(self, layers: EncoderLayers, x: Tensor, rows: Rows, last: RMSNorm | None) -> Tensor:
        between, attend, change = self.functions, None, None
        for layer in layers.layers:
            assert isinstance(layer, T5EncoderLayer)
            norm = layer.attention_norm
            if change is None:
                normed = between.first(x, norm)
            else:
                x, normed = between.residual(x, change, norm)
            q, k, v = _projected(layer, normed)
            attend = attend or prepare(self.attention, layers, rows, q)
            change = _mixed(layer, attend, q, k, v)
            x, normed = between.residual(x, change, layer.feed_forward_norm)
            change = between.feed_forward(layer.feed_forward, normed)
        assert change is not None
        return x + change if last is None else between.residual(x, change, last)[1]


def _projected(layer: T5EncoderLayer, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    attention = layer.attention
    q, k, v = (
        projection(normed).unflatten(-1, (attention.heads, attention.head_width))
        for projection in (attention.query, attention.key, attention.value)
    )
    return q, k, v


def _mixed(layer: T5EncoderLayer, attend: Attend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    out: Tensor = layer.attention.out(attend(q, k, v).flatten(1))
    return out
