"""BERT's blocks: a norm with a bias after each sub-layer, learned positions, nothing that layers share.

A row of BERT is one text, and its tokens count on from the question into the passage. Here a passage has its
place before any question is known, so that its memory is valid for all: questions stand at positions from 0,
passages from `ReaderConfig.passage_position` on, whatever the question's length.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fidkit.config import ReaderConfig, StackConfig
from fidkit.families.bert import TOKEN_TYPES
from fidkit.nn.attention import CrossAttention, KeysValues, Probe, RowAttention, SelfAttention
from fidkit.nn.blocks import Blocks, DecoderLayer, Embedding, EncoderLayer, Side
from fidkit.nn.dropout import Dropout
from fidkit.nn.layers import Vectorwise
from fidkit.nn.positions import PositionTable
from fidkit.nn.rows import Rows

EPSILON = 1e-12
_TYPE: dict[Side, int] = {"question": 0, "passage": 1}


class LayerNorm(Vectorwise):
    """Centre and scale in float32, then `weight` and `bias`."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape and dtype as `x` [..., width]."""
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), weight.shape, weight, bias, self.epsilon).to(x.dtype)

    def draw(self, generator: torch.Generator | None) -> None:
        self.weight.fill_(1.0)
        self.bias.zero_()


class Positions(PositionTable):
    """A vector a position, or a type of text."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))

    def draw(self, generator: torch.Generator | None) -> None:
        self.weight.normal_(0.0, 0.1, generator=generator)


class BertEmbedding(Embedding):
    """Words, positions and types of text, summed and normed."""

    def __init__(
        self, vocabulary: int, width: int, positions: int, passage_position: int, epsilon: float
    ) -> None:
        super().__init__(vocabulary, width)
        self.passage_position = passage_position
        self.positions = Positions(positions, width)
        self.types = Positions(TOKEN_TYPES, width)
        self.norm = LayerNorm(width, epsilon)

    def of_rows(self, ids_X: Tensor, rows: Rows, side: Side) -> Tensor:
        first = self.passage_position if side == "passage" else 0
        return self._sum(ids_X, first + rows.position_X, side)

    def of_targets(self, ids: Tensor, positions_T: Tensor) -> Tensor:
        return self._sum(ids, positions_T, "question")

    def _sum(self, ids: Tensor, positions: Tensor, side: Side) -> Tensor:
        # Only targets, and rows that fill up a batch and that nobody reads, go beyond the last position.
        known = positions.clamp(max=len(self.positions.weight) - 1)
        placed = F.embedding(known, self.positions.weight) + self.types.weight[_TYPE[side]]
        summed: Tensor = self.norm(self(ids) + placed)
        return summed


class BertFeedForward(Vectorwise):
    """`out(gelu(inner(x)))`, with the exact form of GELU."""

    def __init__(self, stack: StackConfig, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Linear(stack.width, stack.feed_forward)
        self.out = nn.Linear(stack.feed_forward, stack.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.gelu(self.inner(x)))


class BertEncoderLayer(EncoderLayer):
    """Self-attention and feed-forward, each with its norm behind the sum."""

    def __init__(self, config: ReaderConfig, stack: StackConfig, epsilon: float) -> None:
        super().__init__()
        self.attention = RowAttention(stack, config.dropout)
        self.attention_norm = LayerNorm(stack.width, epsilon)
        self.feed_forward = BertFeedForward(stack, config.dropout)
        self.feed_forward_norm = LayerNorm(stack.width, epsilon)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, rows: Rows, bias: Tensor) -> Tensor:
        x = self.attention_norm(x + self.dropout(self.attention(x, rows, bias)))
        normed: Tensor = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return normed

    def outputs(self) -> list[nn.Linear]:
        return [self.attention.out, self.feed_forward.out]


class BertDecoderLayer(DecoderLayer):
    """The same with cross-attention in between, where the layer has it."""

    def __init__(self, config: ReaderConfig, reads_context: bool, epsilon: float) -> None:
        super().__init__()
        stack = config.decoder
        self_kv_heads, cross_kv_heads = config.kv_heads
        self.self_attention = SelfAttention(stack, self_kv_heads, config.dropout)
        self.self_attention_norm = LayerNorm(stack.width, epsilon)
        self.cross_attention = None
        if reads_context:
            self.cross_attention = CrossAttention(stack, cross_kv_heads, config.context_width, config.dropout)
            self.cross_attention_norm = LayerNorm(stack.width, epsilon)
        self.feed_forward = BertFeedForward(stack, config.dropout)
        self.feed_forward_norm = LayerNorm(stack.width, epsilon)
        self.dropout = Dropout(config.dropout)

    def mix(self, x: Tensor, bias: Tensor, remember: Callable[[KeysValues], KeysValues]) -> Tensor:
        normed: Tensor = self.self_attention_norm(x + self.dropout(self.self_attention(x, bias, remember)))
        return normed

    def read(self, x: Tensor, cross: KeysValues | None, bias: Tensor, probe: Probe | None) -> Tensor:
        if self.cross_attention is None or cross is None:
            return x
        read = self.cross_attention(x, cross, bias, probe)
        normed: Tensor = self.cross_attention_norm(x + self.dropout(read))
        return normed

    def think(self, x: Tensor) -> Tensor:
        normed: Tensor = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return normed

    def outputs(self) -> list[nn.Linear]:
        attentions = [self.self_attention, *([self.cross_attention] if self.cross_attention else [])]
        return [*(attention.out for attention in attentions), self.feed_forward.out]


class BertBlocks(Blocks):
    """BERT's; as a decoder, its causal form with cross-attention.

    Attributes:
        epsilon: of all norms, added to the variance.
    """

    epsilon = EPSILON

    def embedding(self, config: ReaderConfig, stack: StackConfig, vocabulary: int) -> BertEmbedding:
        return BertEmbedding(vocabulary, stack.width, config.positions, config.passage_position, self.epsilon)

    def encoder_layer(self, config: ReaderConfig, stack: StackConfig) -> BertEncoderLayer:
        return BertEncoderLayer(config, stack, self.epsilon)

    def decoder_layer(self, config: ReaderConfig, reads_context: bool) -> BertDecoderLayer:
        return BertDecoderLayer(config, reads_context, self.epsilon)

    def last_norm(self, stack: StackConfig) -> nn.Module:
        return nn.Identity()


BLOCKS = {"bert": BertBlocks()}
