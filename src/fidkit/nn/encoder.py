"""Encoder layers: the part of the reader that runs once per passage, or live, or both."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from fidkit.config import ReaderConfig, StackConfig
from fidkit.families import Kernels
from fidkit.nn.blocks import Embedding, blocks
from fidkit.nn.dropout import Dropout
from fidkit.nn.positions import PositionBias
from fidkit.nn.rows import Rows


class EncoderLayers(nn.Module):
    """A run of encoder layers, with one position bias where their family has it; the identity without layers.

    Args:
        config: of the reader.
        layers: how many.
        stack: their sizes; by default the encoder's.
        frozen: training leaves the layers alone, and they never drop out.

    Attributes:
        kernels: which fast kernels suit the layers.
        stack: their sizes.
        relative_bias: None without layers, or where the family has no bias that layers share.
    """

    layers: nn.ModuleList
    frozen: bool
    kernels: Kernels | None
    stack: StackConfig
    relative_bias: PositionBias | None

    def __init__(
        self, config: ReaderConfig, layers: int, stack: StackConfig | None = None, *, frozen: bool = False
    ) -> None:
        super().__init__()
        stack = stack or config.encoder
        family = blocks(stack)
        self.kernels, self.stack = stack.blocks.kernels, stack
        self.layers = nn.ModuleList(family.encoder_layer(config, stack) for _ in range(layers))
        self.frozen = frozen and layers > 0
        if layers:
            self.dropout: nn.Module = Dropout(config.dropout)
        self.relative_bias = family.encoder_bias(config, stack) if layers else None
        if self.frozen:
            self.requires_grad_(False)

    def train(self, mode: bool = True) -> EncoderLayers:
        return super().train(mode and not self.frozen)

    def parts(self, layers: int) -> tuple[EncoderLayers, EncoderLayers]:
        """The first layers and the others, on the same weights; one after the other they are the whole."""
        first, others = (EncoderLayers.__new__(EncoderLayers) for _ in range(2))
        for part, own in ((first, self.layers[:layers]), (others, self.layers[layers:])):
            nn.Module.__init__(part)
            part.layers, part.frozen, part.training = own, self.frozen, self.training
            part.relative_bias, part.kernels, part.stack = self.relative_bias, self.kernels, self.stack
        # What enters the stack drops out, once.
        first.dropout, others.dropout = self.dropout, nn.Identity()
        return first, others

    def forward(self, x_XD: Tensor, rows: Rows, norm: nn.Module | None = None) -> Tensor:
        """Encode the vectors [X, D] of `rows`, each row by itself; `norm` is over what comes out."""
        x = x_XD
        if self.layers:
            bias, x = self.bias(rows.longest), self.dropout(x)
            for layer in self.layers:
                x = layer(x, rows, bias)
        return x if norm is None else norm(x)

    def bias(self, width: int) -> Tensor:
        """Position bias [1, H, width, width], 0 where layers share none."""
        if self.relative_bias is None:
            return next(self.parameters()).new_zeros(1, self.stack.heads, width, width)
        positions = torch.arange(width, device=self.relative_bias.weight.device)
        return self.relative_bias(positions, positions)

    def bias_by_distance(self, reach: int) -> Tensor:
        """Position bias [H, 2 reach + 1], float32, of keys at distances -reach to reach."""
        assert self.relative_bias is not None
        here = torch.zeros(1, dtype=torch.long, device=self.relative_bias.weight.device)
        distances = torch.arange(-reach, reach + 1, device=here.device)
        return self.relative_bias(here, distances)[0, :, 0].float().contiguous()


class LiveEncoder(EncoderLayers):
    """The last layers, and the final norm where the family has one (T5 normalises before each layer)."""

    def __init__(self, config: ReaderConfig, layers: int) -> None:
        super().__init__(config, layers)
        self.norm = blocks(config.encoder).last_norm(config.encoder)
        self.last_dropout = Dropout(config.dropout)

    def finish(self, x: Tensor) -> Tensor:
        """What every vector goes through before the decoder sees it."""
        return self.last_dropout(self.norm(x))


class Run(Protocol):
    """A way to run encoder layers over the vectors [X, D] of rows; `EncoderLayers.__call__` is plain."""

    def __call__(
        self, layers: EncoderLayers, x_XD: Tensor, rows: Rows, norm: nn.Module | None = None, /
    ) -> Tensor: ...


class MemoryEncoder(nn.Module):
    """Embedding and layers as applied to a passage alone, once in its life (LUMEN).

    Frozen by default, so that a stored memory stays valid while the reader is trained. Without layers it is
    the reader's own embedding, trained with everything else.
    """

    def __init__(self, config: ReaderConfig, embedding: Embedding) -> None:
        super().__init__()
        layers, frozen = config.memory_layers, "memory" in config.frozen
        stack, vocabulary = config.memory_stack, config.passage_vocabulary_size
        self.embedding = blocks(stack).embedding(config, stack, vocabulary) if layers else embedding
        self.encoder = EncoderLayers(config, layers, stack, frozen=frozen)
        if layers and frozen:
            self.embedding.requires_grad_(False)
