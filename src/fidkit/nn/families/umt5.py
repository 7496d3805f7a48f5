"""umT5's blocks: T5 v1.1's, with a bias by distance in each layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fidkit.config import ReaderConfig, StackConfig
from fidkit.nn.attention import KeysValues
from fidkit.nn.families.t5 import T5Blocks, T5DecoderLayer, T5EncoderLayer, relative_bias
from fidkit.nn.layers import GatedFeedForward
from fidkit.nn.rows import Rows


class Umt5EncoderLayer(T5EncoderLayer):
    """T5's, which adds its own bias to what the stack says."""

    def __init__(self, config: ReaderConfig, stack: StackConfig) -> None:
        super().__init__(config, stack, GatedFeedForward)
        self.relative_bias = relative_bias(config, stack, bidirectional=True)

    def forward(self, x: Tensor, rows: Rows, bias: Tensor) -> Tensor:
        positions = torch.arange(bias.shape[-1], device=bias.device)
        return super().forward(x, rows, bias + self.relative_bias(positions, positions))


class Umt5DecoderLayer(T5DecoderLayer):
    """The same in the decoder's self-attention, for all positions so far."""

    def __init__(self, config: ReaderConfig, reads_context: bool) -> None:
        super().__init__(config, reads_context, GatedFeedForward)
        self.relative_bias = relative_bias(config, config.decoder, bidirectional=False)

    def mix(self, x: Tensor, bias: Tensor, remember: Callable[[KeysValues], KeysValues]) -> Tensor:
        # The queries are the last of the keys' positions, in a step as in training.
        positions = torch.arange(bias.shape[-1], device=bias.device)
        own = self.relative_bias(positions[-x.shape[1] :], positions)
        return super().mix(x, bias + own, remember)


class Umt5Blocks(T5Blocks):
    """No bias is the stack's."""

    def __init__(self) -> None:
        super().__init__(GatedFeedForward)

    def encoder_layer(self, config: ReaderConfig, stack: StackConfig) -> Umt5EncoderLayer:
        return Umt5EncoderLayer(config, stack)

    def decoder_layer(self, config: ReaderConfig, reads_context: bool) -> Umt5DecoderLayer:
        return Umt5DecoderLayer(config, reads_context)

    def encoder_bias(self, config: ReaderConfig, stack: StackConfig) -> None:
        return None

    def decoder_bias(self, config: ReaderConfig) -> None:
        return None


BLOCKS = {"umt5": Umt5Blocks()}
