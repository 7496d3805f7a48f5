"""BERT's layers with plain matrices, one sequence at a time: the oracle of the family `bert`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fidkit.config import ReaderConfig, StackConfig

Tokens = list[int]


class NaiveBert:
    """By names of parameters. As a decoder, layers are causal and read the context in between."""

    epsilon = 1e-12

    def __init__(self, config: ReaderConfig, stack: StackConfig, weights: dict[str, Tensor]) -> None:
        self.config, self.stack, self.w = config, stack, weights

    def embed(self, name: str, ids: Tokens, side: str) -> Tensor:
        """Passages have positions of their own, whatever the question's length."""
        rows = []
        for place, token in enumerate(ids):
            place += self.config.passage_position if side == "passage" else 0
            vector = self.w[f"{name}.weight"][token] + self.w[f"{name}.positions.weight"][place]
            rows.append(vector + self.w[f"{name}.types.weight"][1 if side == "passage" else 0])
        return self.norm(torch.stack(rows), f"{name}.norm")

    def encode(self, name: str, layers: range, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Some layers of an encoder; `seen` [S, S] says who sees whom."""
        hidden = torch.zeros(len(x), len(x)) if seen is None else (~seen) * -1e30
        for number in layers:
            layer = f"{name}.layers.{number}"
            x = x + self._attention(f"{layer}.attention", x, x, hidden, self.stack.heads)
            x = self._think(layer, self.norm(x, f"{layer}.attention_norm"))
        return x

    def decode(self, ids: Tokens, context: Tensor) -> Tensor:
        """States [T, E]."""
        x = self.embed("decoder.embedding", ids, "target")
        own, cross = self.config.kv_heads
        future = torch.ones(len(ids), len(ids)).triu(1) * -1e30
        for number in range(self.stack.layers):
            layer = f"decoder.layers.{number}"
            x = x + self._attention(f"{layer}.self_attention", x, x, future, own)
            x = self.norm(x, f"{layer}.self_attention_norm")
            if (number + 1) % self.config.cross_attention_every == 0:
                all_of_it = torch.zeros(len(ids), len(context))
                x = x + self._attention(f"{layer}.cross_attention", x, context, all_of_it, cross)
                x = self.norm(x, f"{layer}.cross_attention_norm")
            x = self._think(layer, x)
        return x

    def last_norm(self, x: Tensor, name: str) -> Tensor:
        return x

    def norm(self, x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + self.epsilon).sqrt()
        return scaled * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def bias(self, name: str, head: int, length: int) -> Tensor:
        """What the scores of an attention get by distance [queries, keys], or one number for all."""
        return torch.zeros(())

    def _think(self, layer: str, x: Tensor) -> Tensor:
        inner = self._times(f"{layer}.feed_forward.inner", x)
        inner = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
        return self.norm(x + self._times(f"{layer}.feed_forward.out", inner), f"{layer}.feed_forward_norm")

    def _attention(self, name: str, x: Tensor, context: Tensor, hidden: Tensor, kv_heads: int) -> Tensor:
        q, k, v = (
            self._times(f"{name}.{matrix}", of)
            for matrix, of in (("query", x), ("key", context), ("value", context))
        )
        width, mixed = self.stack.head_width, []
        for head in range(self.stack.heads):
            shared = head // (self.stack.heads // kv_heads)
            own = slice(head * width, (head + 1) * width)
            theirs = slice(shared * width, (shared + 1) * width)
            scores = q[:, own] @ k[:, theirs].T / math.sqrt(width) + self.bias(name, head, len(x)) + hidden
            mixed.append(scores.softmax(-1) @ v[:, theirs])
        return self._times(f"{name}.out", torch.cat(mixed, 1))

    def _times(self, name: str, x: Tensor) -> Tensor:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]
