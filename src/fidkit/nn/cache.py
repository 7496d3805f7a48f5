"""What the decoder keeps between steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fidkit.config import ReaderConfig
from fidkit.nn.attention import KeysValues


class DecoderCache:
    """Static self-attention caches, written one position a step, and write-once cross-attention caches.

    Attributes:
        length: positions written so far.
        self_keys, self_values: [layers, B, G, max_tokens, h].
        cross: per layer, keys and values [B, G, M, h], or None for a layer without cross-attention.
        cross_bias: [B, 1, 1, M], hides padding.
    """

    def __init__(
        self,
        config: ReaderConfig,
        *,
        cross: list[KeysValues | None],
        cross_bias: Tensor,
        max_tokens: int,
        like: Tensor,
    ) -> None:
        stack = config.decoder
        shape = (stack.layers, cross_bias.shape[0], config.kv_heads[0], max_tokens, stack.head_width)
        self.length = 0
        self.self_keys = torch.zeros(shape, dtype=like.dtype, device=like.device)
        self.self_values = torch.zeros_like(self.self_keys)
        self.cross = cross
        self.cross_bias = cross_bias

    def appender(self, layer: int) -> Callable[[KeysValues], KeysValues]:
        """A function that stores one position's keys and values of `layer` and returns all so far."""

        def append(new: KeysValues) -> KeysValues:
            end = self.length + 1
            self.self_keys[layer, :, :, self.length : end] = new[0]
            self.self_values[layer, :, :, self.length : end] = new[1]
            return self.self_keys[layer, :, :, :end], self.self_values[layer, :, :, :end]

        return append

    @property
    def cross_bytes(self) -> int:
        """Bytes of the cross-attention caches; layers without cross-attention add none."""
        return sum(x.nbytes for pair in self.cross if pair is not None for x in pair)
