"""Encoder layers on the CPU's native kernels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fidkit.native import Kernels
from fidkit.nn.encoder import EncoderLayer, EncoderLayers
from fidkit.nn.layers import FeedForward
from fidkit.nn.rows import Rows

# Vectors that go through all layers together. Their activations stay in the cache, where those of 40
# passages would be written to memory and read back a dozen times a layer.
CHUNK = 1536


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
        done = [self._chunk(layers, x_XD[first:end], starts, bias) for first, end, starts in chunks(rows)]
        return torch.cat(done)

    def _chunk(self, layers: EncoderLayers, x_XD: Tensor, starts: Tensor, bias: Tensor) -> Tensor:
        dtype, states = x_XD.dtype, x_XD.to(torch.float32, copy=True)
        change: Tensor | None = None
        for module in layers.layers:
            assert isinstance(module, EncoderLayer)
            norm = module.attention_norm
            normed = self.kernels.add_norm(states, change, norm.weight.float(), norm.epsilon, dtype)
            change = self._attend(module, normed, starts, bias)
            norm = module.feed_forward_norm
            normed = self.kernels.add_norm(states, change, norm.weight.float(), norm.epsilon, dtype)
            change = self._think(module, normed)
        assert change is not None
        return (states + change).to(dtype)

    def _attend(self, layer: EncoderLayer, normed: Tensor, starts: Tensor, bias: Tensor) -> Tensor:
        attention = layer.attention
        q, k, v = (
            projection(normed).unflatten(-1, (attention.heads, attention.head_width))
            for projection in (attention.query, attention.key, attention.value)
        )
        return attention.out(self.kernels.row_attention(q, k, v, starts, bias).flatten(1))

    def _think(self, layer: EncoderLayer, normed: Tensor) -> Tensor:
        block = layer.feed_forward
        if isinstance(block, FeedForward):
            return block.out(block.inner(normed).relu_())
        return block.out(self.kernels.gated_gelu(block.gate(normed), block.inner(normed)))


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
