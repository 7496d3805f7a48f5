"""What the decoder keeps between steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fidkit.config import ReaderConfig
from fidkit.nn.attention import KeysValues
from fidkit.written import Written, no_room


class DecoderCache(Written):
    """Static self-attention caches, written one position a step, and write-once cross-attention caches.

    W answers to a question are written side by side: beams, or samples. Their rows stand together, so that
    N = B * W rows have a self-attention cache each, while the cross-attention cache of a question is held
    once, however many answers read it.

    Attributes:
        beams: W, rows of a question.
        length: positions written so far.
        max_tokens: positions there is room for.
        self_keys, self_values: [layers, N, G, max_tokens or more, h].
        cross: per layer, keys and values [B, G, M, h], or None for a layer without cross-attention.
        cross_bias: [B, 1, 1, M], hides padding.

    With `own`, the self-attention caches are those: with room for `max_tokens` positions at least.

    Raises:
        FidkitError: the self-attention caches don't fit into memory.
    """

    def __init__(
        self,
        config: ReaderConfig,
        *,
        cross: list[KeysValues | None],
        cross_bias: Tensor,
        max_tokens: int,
        like: Tensor,
        beams: int = 1,
        own: KeysValues | None = None,
    ) -> None:
        super().__init__(max_tokens)
        self.beams = beams
        if own is None:
            stack = config.decoder
            rows = cross_bias.shape[0] * beams
            shape = (stack.layers, rows, config.kv_heads[0], max_tokens, stack.head_width)
            own = _zeros(shape, like), _zeros(shape, like)
        self.self_keys, self.self_values = own
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

    def select(self, rows_N: Tensor) -> None:
        """Let row i go on from what row `rows_N[i]` has written; both are rows of the same question.

        That is why the cross-attention caches stay as they are. In place: nothing is reallocated.
        """
        for cache in (self.self_keys, self.self_values):
            written = cache[:, :, :, : self.length]
            written.copy_(written[:, rows_N])

    @property
    def cross_bytes(self) -> int:
        """Bytes of the cross-attention caches; layers without cross-attention add none."""
        return sum(x.nbytes for pair in self.cross if pair is not None for x in pair)


def _zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    try:
        return torch.zeros(shape, dtype=like.dtype, device=like.device)
    except RuntimeError as error:  # also what PyTorch raises when a CPU or a device is out of memory
        raise no_room(shape, like.element_size()) from error
