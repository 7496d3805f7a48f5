"""T5's layers with plain matrices, one sequence at a time: the oracle of the families `t5` and `t5-v1.1`.

A family's oracle shares nothing with the package but the names of its parameters. It runs layers of an
encoder over one row, and the whole decoder over one question; `oracles.NaiveReader` puts readers together.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fidkit.config import ReaderConfig, StackConfig

Tokens = list[int]


class NaiveT5:
    """T5 v1.0, by names of parameters."""

    def __init__(self, config: ReaderConfig, stack: StackConfig, weights: dict[str, Tensor]) -> None:
        self.config, self.stack, self.w = config, stack, weights

    def embed(self, name: str, ids: Tokens, side: str) -> Tensor:
        """Tokens of a question, a passage or a target."""
        return self.w[f"{name}.weight"][ids]

    def encode(self, name: str, layers: range, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Some layers of an encoder; `seen` [S, S] says who sees whom."""
        for number in layers:
            layer = f"{name}.layers.{number}"
            bias = self._bias(self._table(name, layer), len(x), bidirectional=True)
            if seen is not None:
                bias = bias.masked_fill(~seen, -1e30)
            normed = self.norm(x, f"{layer}.attention_norm")
            x = x + self._attention(f"{layer}.attention", normed, normed, bias, self.stack.heads)
            x = x + self._feed_forward(f"{layer}.feed_forward", self.norm(x, f"{layer}.feed_forward_norm"))
        return x

    def decode(self, ids: Tokens, context: Tensor) -> Tensor:
        """States [T, E] after the final norm."""
        config, x = self.config, self.embed("decoder.embedding", ids, "target")
        own, cross = config.kv_heads
        future = torch.ones(len(ids), len(ids)).triu(1) * -1e30
        for number in range(self.stack.layers):
            layer = f"decoder.layers.{number}"
            bias = self._bias(self._table("decoder", layer), len(ids), bidirectional=False) + future
            normed = self.norm(x, f"{layer}.self_attention_norm")
            x = x + self._attention(f"{layer}.self_attention", normed, normed, bias, own)
            if (number + 1) % config.cross_attention_every == 0:
                normed = self.norm(x, f"{layer}.cross_attention_norm")
                none = torch.zeros(self.stack.heads, len(ids), len(context))
                x = x + self._attention(f"{layer}.cross_attention", normed, context, none, cross)
            x = x + self._feed_forward(f"{layer}.feed_forward", self.norm(x, f"{layer}.feed_forward_norm"))
        return self.last_norm(x, "decoder.norm")

    def last_norm(self, x: Tensor, name: str) -> Tensor:
        return self.norm(x, name)

    def norm(self, x: Tensor, name: str) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * self.w[f"{name}.weight"]

    def _attention(self, name: str, x: Tensor, context: Tensor, bias: Tensor, kv_heads: int) -> Tensor:
        q, k, v = (
            of @ self.w[f"{name}.{matrix}.weight"].T
            for matrix, of in (("query", x), ("key", context), ("value", context))
        )
        heads, mixed = len(bias), []
        width = q.shape[1] // heads
        for head in range(heads):
            shared = head // (heads // kv_heads)
            own = slice(head * width, (head + 1) * width)
            theirs = slice(shared * width, (shared + 1) * width)
            mixed.append((q[:, own] @ k[:, theirs].T + bias[head]).softmax(-1) @ v[:, theirs])
        return torch.cat(mixed, 1) @ self.w[f"{name}.out.weight"].T

    def _feed_forward(self, name: str, x: Tensor) -> Tensor:
        inner = (x @ self.w[f"{name}.inner.weight"].T).clamp(min=0)
        return inner @ self.w[f"{name}.out.weight"].T

    def _table(self, stack: str, layer: str) -> str:
        """What biases by distance are called: all layers of a stack have one table."""
        return f"{stack}.relative_bias.weight"

    def _bias(self, name: str, length: int, *, bidirectional: bool) -> Tensor:
        config = self.config
        rows = [
            [naive_bucket(k - q, bidirectional, config.relative_buckets, config.relative_max_distance)
             for k in range(length)]
            for q in range(length)
        ]  # fmt: skip
        return self.w[name][torch.tensor(rows)].permute(2, 0, 1)


class NaiveT5v11(NaiveT5):
    """T5 v1.1: a gate in the feed-forward layer."""

    def _feed_forward(self, name: str, x: Tensor) -> Tensor:
        gate = x @ self.w[f"{name}.gate.weight"].T
        cube = math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)
        inner = 0.5 * gate * (1 + torch.tanh(cube)) * (x @ self.w[f"{name}.inner.weight"].T)
        return inner @ self.w[f"{name}.out.weight"].T


def naive_bucket(distance: int, bidirectional: bool, buckets: int, most: int) -> int:
    """T5's bucket of one distance, from key position - query position."""
    first = 0
    if bidirectional:
        buckets //= 2
        first = buckets if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(0, -distance)
    exact = buckets // 2
    if distance < exact:
        return first + distance
    # The rounding guards against 1.9999999 where the logarithms give 2.
    step = round(math.log(distance / exact) / math.log(most / exact) * (buckets - exact), 9)
    return first + min(buckets - 1, exact + int(step))
