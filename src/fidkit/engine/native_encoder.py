"""Encoder layers on the CPU's native kernels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fidkit.native import Kernels
from fidkit.nn.encoder import EncoderLayer, EncoderLayers
from fidkit.nn.layers import FeedForward, GatedFeedForward
from fidkit.nn.rows import Rows

# Vectors that go through all layers together: their activations stay in the cache, and memory for them is
# that of a chunk, not of 40 passages.
CHUNK = 2048


class NativeEncoder:
    """Runs encoder layers over ragged rows; a `fidkit.nn.encoder.Run`.

    The residual stream is float32 whatever the type of the weights: it is narrow beside the rest, and
    adding in bfloat16 would lose what later layers change.
    """

    def __init__(self, kernels: Kernels) -> None:
        self.kernels = kernels

    def __call__(self, layers: EncoderLayers, x_XD: Tensor, rows: Rows) -> Tensor:
        """Encode [X, D]; the same type comes back."""
        if not layers.layers or not len(x_XD):
            return x_XD
        bias = bias_by_distance(layers, rows.longest)
        found = list(chunks(rows))
        space = _Space(layers, max(end - first for first, end, _ in found), x_XD.dtype)
        out = torch.empty_like(x_XD)
        for first, end, starts in found:
            out[first:end] = self._chunk(layers, x_XD[first:end], starts, bias, space)
        return out

    def _chunk(
        self, layers: EncoderLayers, x_XD: Tensor, starts: Tensor, bias: Tensor, space: _Space
    ) -> Tensor:
        """States [X, D], float32, after all layers."""
        states, change = x_XD.to(torch.float32, copy=True), None
        normed = space.normed[: len(x_XD)]
        for layer in layers.layers:
            assert isinstance(layer, EncoderLayer)
            norm = layer.attention_norm
            self.kernels.add_norm(states, change, norm.weight.float(), norm.epsilon, normed)
            change = self._attend(layer, normed, starts, bias, space)
            norm = layer.feed_forward_norm
            self.kernels.add_norm(states, change, norm.weight.float(), norm.epsilon, normed)
            change = self._think(layer, normed, space)
        return states.add_(change) if change is not None else states

    def _attend(
        self, layer: EncoderLayer, normed: Tensor, starts: Tensor, bias: Tensor, space: _Space
    ) -> Tensor:
        attention, n = layer.attention, len(normed)
        heads = (n, attention.heads, attention.head_width)
        q, k, v = (
            _product(normed, projection, to[:n]).view(heads)
            for projection, to in zip(
                (attention.query, attention.key, attention.value), space.projected, strict=True
            )
        )
        mixed = self.kernels.row_attention(q, k, v, starts, bias, space.mixed[:n].view(heads))
        return _product(mixed.view(n, -1), attention.out, space.change[:n])

    def _think(self, layer: EncoderLayer, normed: Tensor, space: _Space) -> Tensor:
        block, n = layer.feed_forward, len(normed)
        assert isinstance(block, FeedForward | GatedFeedForward)
        inner = _product(normed, block.inner, space.inner[:n])
        if isinstance(block, FeedForward):
            inner.relu_()
        else:
            self.kernels.gated_gelu(_product(normed, block.gate, space.gate[:n]), inner)
        return _product(inner, block.out, space.change[:n])


class _Space:
    """Memory for the activations of a chunk, used again by every layer.

    New memory for each of them would be handed out by the system page by page, again and again.
    """

    def __init__(self, layers: EncoderLayers, most: int, dtype: torch.dtype) -> None:
        layer = layers.layers[0]
        assert isinstance(layer, EncoderLayer)
        attention, block = layer.attention, layer.feed_forward
        assert isinstance(block, FeedForward | GatedFeedForward)
        width, heads, hidden = block.out.out_features, attention.query.out_features, block.inner.out_features

        def space(columns: int) -> Tensor:
            return torch.empty(most, columns, dtype=dtype)

        self.normed, self.change, self.mixed = space(width), space(width), space(heads)
        self.projected = [space(heads) for _ in range(3)]
        self.gate, self.inner = space(hidden), space(hidden)


def _product(x: Tensor, linear: nn.Linear, out: Tensor) -> Tensor:
    return torch.mm(x, linear.weight.t(), out=out)


def chunks(rows: Rows) -> Iterator[tuple[int, int, Tensor]]:
    """Whole rows of about `CHUNK` vectors together: first vector, end, and where rows begin in between."""
    starts = rows.starts.tolist()
    begin = 0
    for row in range(1, len(starts)):
        last = row + 1 == len(starts)
        if last or starts[row + 1] - starts[begin] > CHUNK:
            yield starts[begin], starts[row], rows.starts[begin : row + 1] - starts[begin]
            begin = row


def bias_by_distance(layers: EncoderLayers, width: int) -> Tensor:
    """[H, 2 width - 1], float32: the relative bias of a key at distance d stands at width - 1 + d."""
    queries = torch.tensor([width - 1])
    return layers.relative_bias(queries, torch.arange(2 * width - 1))[0, :, 0].float().contiguous()
