"""Encoder layers: the part of the reader that runs once per passage, or live, or both."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fidkit.config import ReaderConfig
from fidkit.nn.attention import RowAttention
from fidkit.nn.layers import FEED_FORWARD, RMSNorm
from fidkit.nn.positions import RelativeBias
from fidkit.nn.rows import Rows


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__()
        stack = config.encoder
        self.attention_norm = RMSNorm(stack.width)
        self.attention = RowAttention(stack, config.dropout)
        self.feed_forward_norm = RMSNorm(stack.width)
        self.feed_forward = FEED_FORWARD[config.block](stack, config.dropout)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, rows: Rows, bias: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), rows, bias))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class EncoderLayers(nn.Module):
    """A run of encoder layers with one relative bias table; the identity when there are none."""

    def __init__(self, config: ReaderConfig, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(layers))
        if layers:
            self.dropout = nn.Dropout(config.dropout)
            self.relative_bias = RelativeBias(
                config.encoder.heads,
                bidirectional=True,
                buckets=config.relative_buckets,
                max_distance=config.relative_max_distance,
            )

    def forward(self, x_XD: Tensor, rows: Rows) -> Tensor:
        """Encode the vectors [X, D] of `rows`, each row by itself."""
        if not self.layers:
            return x_XD
        bias, x = self.bias(rows.longest), self.dropout(x_XD)
        for layer in self.layers:
            x = layer(x, rows, bias)
        return x

    def bias(self, width: int) -> Tensor:
        """Relative bias [1, H, width, width]."""
        positions = torch.arange(width, device=self.relative_bias.weight.device)
        return self.relative_bias(positions, positions)

    def bias_by_distance(self, reach: int) -> Tensor:
        """Relative bias [H, 2 reach + 1], float32, of keys at distances -reach to reach."""
        here = torch.zeros(1, dtype=torch.long, device=self.relative_bias.weight.device)
        distances = torch.arange(-reach, reach + 1, device=here.device)
        return self.relative_bias(here, distances)[0, :, 0].float().contiguous()


class LiveEncoder(EncoderLayers):
    """The last layers and the final norm, which belongs after them (T5 normalises before each layer)."""

    def __init__(self, config: ReaderConfig, layers: int) -> None:
        super().__init__(config, layers)
        self.norm = RMSNorm(config.encoder.width)
        self.last_dropout = nn.Dropout(config.dropout)

    def finish(self, x: Tensor) -> Tensor:
        """What every vector goes through before the decoder sees it."""
        return self.last_dropout(self.norm(x))


Run = Callable[[EncoderLayers, Tensor, Rows], Tensor]
"""A way to run encoder layers over the vectors [X, D] of rows; `EncoderLayers.__call__` is the plain one."""


class MemoryEncoder(nn.Module):
    """Embedding and first layers as applied to a passage alone, once in its life (LUMEN).

    It is frozen, so that a stored memory stays valid while the reader is trained, and it never drops out.
    With no layers of its own it is the reader's own embedding, trained with everything else.
    """

    def __init__(self, config: ReaderConfig, embedding: nn.Embedding) -> None:
        super().__init__()
        frozen = config.memory_layers > 0
        self.embedding = nn.Embedding(*embedding.weight.shape) if frozen else embedding
        self.encoder = EncoderLayers(config, config.memory_layers)
        self.frozen = frozen
        if frozen:
            self.requires_grad_(False)

    def train(self, mode: bool = True) -> MemoryEncoder:
        return super().train(mode and not self.frozen)
