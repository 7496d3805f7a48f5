"""Encoder layers on the CPU's native kernels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fidkit.engine.cpu.products import Products
from fidkit.native import Kernels
from fidkit.nn.encoder import EncoderLayers
from fidkit.nn.families.bert import BertEncoderLayer
from fidkit.nn.families.t5 import T5EncoderLayer
from fidkit.nn.layers import RMSNorm
from fidkit.nn.rows import Rows

# Vectors that go through all layers together: their activations stay in the cache, and memory for them is
# that of a chunk, not of 40 passages.
CHUNK = 2048


class NativeEncoder:
    """Runs encoder layers over ragged rows; a `fidkit.nn.encoder.Run`.

    The residual stream is float32 whatever the type of the weights: it is narrow beside the rest, and
    adding in bfloat16 would lose what later layers change. Rows whose sides don't see each other, and layers
    of a family that these kernels don't suit, are left to the plain layers.

    Args:
        kernels: the compiled kernels.
        own: see `Products`.
    """

    def __init__(self, kernels: Kernels, *, own: bool = False) -> None:
        self.kernels = kernels
        self.products = Products(own=own)

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
            if layers.kernels == "bert":
                self._norms_behind(layers, x, starts, rows.longest, norm, to)
            else:
                assert norm is None or isinstance(norm, RMSNorm)
                bias = layers.bias_by_distance(rows.longest - 1)
                self._norms_before(layers, x, starts, bias, norm, to)
        return out

    def _norms_before(
        self,
        layers: EncoderLayers,
        x_XD: Tensor,
        starts: Tensor,
        bias: Tensor,
        last: RMSNorm | None,
        out_XD: Tensor,
    ) -> None:
        states, change = x_XD.to(torch.float32, copy=True), None
        normed, mixed = torch.empty_like(x_XD), None
        for layer in layers.layers:
            assert isinstance(layer, T5EncoderLayer)
            norm = layer.attention_norm
            self.kernels.add_norm(states, change, norm.weight.float(), norm.epsilon, normed)
            mixed = self._attend(layer, normed, starts, bias, mixed)
            change = self.products(mixed.flatten(1), layer.attention.out)
            norm = layer.feed_forward_norm
            self.kernels.add_norm(states, change, norm.weight.float(), norm.epsilon, normed)
            change = self._think(layer, normed)
        assert change is not None
        if last is None:
            out_XD.copy_(states.add_(change))
        else:
            self.kernels.add_norm(states, change, last.weight.float(), last.epsilon, out_XD)

    def _norms_behind(
        self,
        layers: EncoderLayers,
        x_XD: Tensor,
        starts: Tensor,
        longest: int,
        last: nn.Module | None,
        out_XD: Tensor,
    ) -> None:
        """Layers whose norms stand behind their sub-layers, and whose scores have no bias by distance."""
        states, mixed, none = x_XD.float(), None, None
        for layer in layers.layers:
            assert isinstance(layer, BertEncoderLayer)
            if none is None:
                none = states.new_zeros(layer.attention.heads, 2 * longest - 1)
            mixed = self._attend(layer, states.to(x_XD.dtype), starts, none, mixed)
            change = self.products(mixed.flatten(1), layer.attention.out)
            states = layer.attention_norm(states + change)
            inner = self.products(states.to(x_XD.dtype), layer.feed_forward.inner, gelu=True)
            change = self.products(inner, layer.feed_forward.out)
            states = layer.feed_forward_norm(states + change)
        out_XD.copy_(states if last is None else last(states))

    def _attend(
        self,
        layer: T5EncoderLayer | BertEncoderLayer,
        normed: Tensor,
        starts: Tensor,
        bias: Tensor,
        out: Tensor | None,
    ) -> Tensor:
        """What attention mixes, [X, H, h]; in the memory of an earlier layer's, where there is one."""
        attention = layer.attention
        made = self.products(normed, attention.query, attention.key, attention.value)
        q, k, v = made.view(len(normed), 3, attention.heads, attention.head_width).unbind(1)
        if attention.scale != 1:
            q.mul_(attention.scale)
        return self.kernels.row_attention(q, k, v, starts, bias, out)

    def _think(self, layer: T5EncoderLayer, normed: Tensor) -> Tensor:
        block = layer.feed_forward
        inner = self.products(normed, block.inner)
        if block.gate is None:
            inner.relu_()
        else:
            self.kernels.gated_gelu(self.products(normed, block.gate), inner)
        return self.products(inner, block.out)


def chunks(rows: Rows) -> Iterator[tuple[int, int, Tensor]]:
    """Whole rows of about `CHUNK` vectors together: first vector, end, and where rows begin in between."""
    starts = rows.starts.tolist()
    begin = 0
    for row in range(1, len(starts)):
        last = row + 1 == len(starts)
        if last or starts[row + 1] - starts[begin] > CHUNK:
            yield starts[begin], starts[row], rows.starts[begin : row + 1] - starts[begin]
            begin = row
