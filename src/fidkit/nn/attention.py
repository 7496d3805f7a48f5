"""Attention with any number of key/value heads: multi-head, grouped, multi-query.

Three classes over one functional core: they share algebra, not life cycle. The encoder's rows attend to
themselves; the decoder's self-attention appends to its keys; cross-attention projects its keys once a
question.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fidkit.config import StackConfig
from fidkit.nn.dropout import drop
from fidkit.nn.row_training import attend_rows_by_hand
from fidkit.nn.rows import Rows

KeysValues = tuple[Tensor, Tensor]
"""Keys and values, each [B, G, S, h]."""

Probe = Callable[[Tensor], None]
"""Sees attention scores [B, H, T, S] after biases and before the softmax."""


def attend(
    q_BHTh: Tensor,
    k_BGSh: Tensor,
    v_BGSh: Tensor,
    bias: Tensor,
    *,
    dropout: float = 0.0,
    probe: Probe | None = None,
) -> Tensor:
    """Softmax attention [B, H, T, h]; the plain path that faster kernels are tested against.

    Scores are as they are: T5 folds 1 / sqrt(h) into its initialisation, others scale their queries.
    Key/value heads are never repeated: the H / G query heads that share one are stacked along the query axis.

    Args:
        q_BHTh: queries.
        k_BGSh: keys; G divides H.
        v_BGSh: values.
        bias: float32, broadcastable to [B, H, T, S].
        dropout: probability of dropping an attention weight.
        probe: called with the scores.
    """
    B, H, T, h = q_BHTh.shape
    G = k_BGSh.shape[1]
    scores = q_BHTh.reshape(B, G, H // G * T, h) @ k_BGSh.transpose(-1, -2)
    scores = scores.view(B, H, T, -1).float() + bias
    if probe is not None:
        probe(scores)
    weights = scores.softmax(-1)
    weights = (drop(weights, dropout) if dropout else weights).to(v_BGSh.dtype)
    return (weights.view(B, G, H // G * T, -1) @ v_BGSh).view(B, H, T, h)


def attend_rows(
    q_XHh: Tensor, k_XHh: Tensor, v_XHh: Tensor, rows: Rows, bias: Tensor, *, dropout: float = 0.0
) -> Tensor:
    """Attention [X, H, h] of every row to itself, padded for the time of the call.

    Args:
        q_XHh: queries of all rows.
        k_XHh: keys.
        v_XHh: values.
        rows: where rows begin and end.
        bias: [1, H, S, S] by position in the row, S the longest row or more.
        dropout: probability of dropping an attention weight.
    """
    if torch.is_grad_enabled() and q_XHh.requires_grad and dropout < 1:
        return attend_rows_by_hand(q_XHh, k_XHh, v_XHh, rows, bias, dropout)
    if not rows.blocks:
        return torch.zeros_like(q_XHh)
    mixed, origin = [], []
    for block in rows.blocks:
        R, S = block.mask_RS.shape
        # Contiguous: a product copies anyway, except of one row, which it may then compute otherwise.
        q, k, v = (
            x.index_select(0, block.vector_RS.flatten()).unflatten(0, (R, S)).transpose(1, 2).contiguous()
            for x in (q_XHh, k_XHh, v_XHh)
        )
        of_block = attend(q, k, v, bias[:, :, :S, :S] + block.bias, dropout=dropout)
        mixed.append(of_block.transpose(1, 2)[block.mask_RS])
        origin.append(block.vector_RS[block.mask_RS])
    return torch.cat(mixed).index_select(0, torch.cat(origin).argsort())


class Projections(nn.Module):
    """The four matrices of an attention layer, with biases and scaled scores where its family has them.

    Attributes:
        scale: of the queries; T5 has 1, others head width ** -0.5.
    """

    def __init__(self, stack: StackConfig, kv_heads: int, context_width: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = stack.heads, kv_heads, stack.head_width
        self.rate = dropout
        biased = stack.blocks.biased
        self.scale = stack.head_width**-0.5 if stack.blocks.scaled else 1.0
        self.query = nn.Linear(stack.width, stack.heads * stack.head_width, bias=biased)
        self.key = nn.Linear(context_width, kv_heads * stack.head_width, bias=biased)
        self.value = nn.Linear(context_width, kv_heads * stack.head_width, bias=biased)
        self.out = nn.Linear(stack.heads * stack.head_width, stack.width, bias=biased)

    def queries(self, x: Tensor) -> Tensor:
        """[..., heads * head width], ready to be multiplied with keys."""
        return self.query(x) if self.scale == 1 else self.query(x) * self.scale

    def keys_values(self, context: Tensor) -> KeysValues:
        """Project [B, S, context width] to keys and values [B, G, S, h]."""
        return self._split(self.key(context), self.kv_heads), self._split(self.value(context), self.kv_heads)

    def _split(self, x: Tensor, heads: int) -> Tensor:
        return x.view(*x.shape[:2], heads, self.head_width).transpose(1, 2)

    def _attend(self, x: Tensor, keys_values: KeysValues, bias: Tensor, probe: Probe | None = None) -> Tensor:
        q = self._split(self.queries(x), self.heads)
        mixed = attend(q, *keys_values, bias, dropout=self.rate if self.training else 0.0, probe=probe)
        return self.out(mixed.transpose(1, 2).flatten(2))


class SelfAttention(Projections):
    """Attention of a sequence to itself."""

    def __init__(self, stack: StackConfig, kv_heads: int, dropout: float) -> None:
        super().__init__(stack, kv_heads, stack.width, dropout)

    def forward(
        self, x: Tensor, bias: Tensor, remember: Callable[[KeysValues], KeysValues] = lambda new: new
    ) -> Tensor:
        """Mix [B, T, width]; `remember` turns the new keys and values into all keys and values so far."""
        return self._attend(x, remember(self.keys_values(x)), bias)


class RowAttention(Projections):
    """Attention of ragged rows to themselves, as in the encoder."""

    def __init__(self, stack: StackConfig, dropout: float) -> None:
        super().__init__(stack, stack.heads, stack.width, dropout)

    def forward(self, x_XD: Tensor, rows: Rows, bias: Tensor) -> Tensor:
        """Mix the vectors [X, D] of each of `rows`; `bias` as in `attend_rows`."""
        q, k, v = (
            projection(x_XD).unflatten(-1, (self.heads, self.head_width))
            for projection in (self.queries, self.key, self.value)
        )
        rate = self.rate if self.training else 0.0
        return self.out(attend_rows(q, k, v, rows, bias, dropout=rate).flatten(1))


class CrossAttention(Projections):
    """Attention of the decoder to a context whose keys and values were projected beforehand."""

    def forward(self, x: Tensor, keys_values: KeysValues, bias: Tensor, probe: Probe | None = None) -> Tensor:
        """Mix [B, T, width] with the context's `keys_values` [B, G, M, h]."""
        return self._attend(x, keys_values, bias, probe)


__all__ = [
    "CrossAttention",
    "KeysValues",
    "Probe",
    "Projections",
    "RowAttention",
    "SelfAttention",
    "attend",
    "attend_rows",
]
