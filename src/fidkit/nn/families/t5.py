"""T5's blocks: a norm before each sub-layer, biases by distance that all layers of a stack share."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from fidkit.config import ReaderConfig, StackConfig
from fidkit.nn.attention import CrossAttention, KeysValues, Probe, RowAttention, SelfAttention
from fidkit.nn.blocks import Blocks, DecoderLayer, EncoderLayer
from fidkit.nn.dropout import Dropout
from fidkit.nn.layers import FeedForward, GatedFeedForward, RMSNorm
from fidkit.nn.positions import RelativeBias
from fidkit.nn.rows import Rows

MakeFeedForward = Callable[[StackConfig, float], FeedForward]


class T5EncoderLayer(EncoderLayer):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, config: ReaderConfig, stack: StackConfig, feed_forward: MakeFeedForward) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(stack.width)
        self.attention = RowAttention(stack, config.dropout)
        self.feed_forward_norm = RMSNorm(stack.width)
        self.feed_forward = feed_forward(stack, config.dropout)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, rows: Rows, bias: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), rows, bias))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))

    def outputs(self) -> list[nn.Linear]:
        return [self.attention.out, self.feed_forward.out]


class T5DecoderLayer(DecoderLayer):
    """Pre-norm self-attention, cross-attention where the layer has it, feed-forward."""

    def __init__(self, config: ReaderConfig, reads_context: bool, feed_forward: MakeFeedForward) -> None:
        super().__init__()
        stack = config.decoder
        self_kv_heads, cross_kv_heads = config.kv_heads
        self.self_attention_norm = RMSNorm(stack.width)
        self.self_attention = SelfAttention(stack, self_kv_heads, config.dropout)
        self.cross_attention = None
        if reads_context:
            self.cross_attention_norm = RMSNorm(stack.width)
            self.cross_attention = CrossAttention(stack, cross_kv_heads, config.context_width, config.dropout)
        self.feed_forward_norm = RMSNorm(stack.width)
        self.feed_forward = feed_forward(stack, config.dropout)
        self.dropout = Dropout(config.dropout)

    def mix(self, x: Tensor, bias: Tensor, remember: Callable[[KeysValues], KeysValues]) -> Tensor:
        return x + self.dropout(self.self_attention(self.self_attention_norm(x), bias, remember))

    def read(self, x: Tensor, cross: KeysValues | None, bias: Tensor, probe: Probe | None) -> Tensor:
        if self.cross_attention is None or cross is None:
            return x
        return x + self.dropout(self.cross_attention(self.cross_attention_norm(x), cross, bias, probe))

    def think(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))

    def outputs(self) -> list[nn.Linear]:
        attentions = [self.self_attention, *([self.cross_attention] if self.cross_attention else [])]
        return [*(attention.out for attention in attentions), self.feed_forward.out]


class T5Blocks(Blocks):
    """T5 of one version.

    Args:
        feed_forward: what the versions differ in.
    """

    def __init__(self, feed_forward: MakeFeedForward) -> None:
        self.feed_forward = feed_forward

    def encoder_layer(self, config: ReaderConfig, stack: StackConfig) -> EncoderLayer:
        return T5EncoderLayer(config, stack, self.feed_forward)

    def decoder_layer(self, config: ReaderConfig, reads_context: bool) -> DecoderLayer:
        return T5DecoderLayer(config, reads_context, self.feed_forward)

    def last_norm(self, stack: StackConfig) -> nn.Module:
        return RMSNorm(stack.width)

    def encoder_bias(self, config: ReaderConfig, stack: StackConfig) -> RelativeBias | None:
        return relative_bias(config, stack, bidirectional=True)

    def decoder_bias(self, config: ReaderConfig) -> RelativeBias | None:
        return relative_bias(config, config.decoder, bidirectional=False)


def relative_bias(config: ReaderConfig, stack: StackConfig, *, bidirectional: bool) -> RelativeBias:
    """A table of biases by distance for the heads of a stack."""
    return RelativeBias(
        stack.heads,
        bidirectional=bidirectional,
        buckets=config.relative_buckets,
        max_distance=config.relative_max_distance,
    )


BLOCKS = {"t5": T5Blocks(FeedForward), "t5-v1.1": T5Blocks(GatedFeedForward)}
