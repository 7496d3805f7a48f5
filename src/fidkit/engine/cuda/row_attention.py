"""Two ways for a GPU to attend within ragged rows: what the encoder does between its projections.

Each is made ready once for some rows and used by all layers, so that no layer waits for the device. Letters
as in `fidkit.nn`; n blocks of `BLOCK` vectors, W blocks that one of them may see, d the distance from which
on all keys share a bias.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from fidkit.engine.cuda.fused import Compiled
from fidkit.nn.encoder import EncoderLayers
from fidkit.nn.rows import Block, Rows

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention [X, H, h] of queries, keys and values [X, H, h], each row to itself."""
Attention = Literal["flex", "sdpa"]
"""`flex`: FlexAttention over the packed vectors. `sdpa`: rows of nearly one length, padded to it."""

BLOCK = 128
# Fewer vectors are one block of padded rows, and a kernel of their own for FlexAttention.
_FEW = 1024
# FlexAttention's kernel multiplies matrices of this width at least.
_NARROWEST = 16
# Biases that begin at multiples of this many numbers are read as they stand, others are copied first.
_ALIGNED = 16


def prepare(attention: Attention, layers: EncoderLayers, rows: Rows, like_XHh: Tensor) -> Attend:
    """Attention within `rows` for all layers.

    Args:
        attention: `flex` gives way to `sdpa` where its kernel doesn't suit, and for rows of two sides.
        layers: with at least one layer.
        rows: of at least one vector.
        like_XHh: queries, or a tensor of their shape and type.
    """
    X, _, h = like_XHh.shape
    if attention == "flex" and X >= _FEW and h >= _NARROWEST and rows.sides is None:
        return FlexRows(layers, rows)
    return PaddedRows(layers, rows, like_XHh.dtype)


class PaddedRows:
    """Attention with PyTorch's own kernels, over blocks of rows that are nearly of one length.

    Args:
        layers: whose relative bias counts.
        rows: where rows begin and end.
        dtype: of queries.
    """

    def __init__(self, layers: EncoderLayers, rows: Rows, dtype: torch.dtype) -> None:
        bias = layers.bias(rows.longest).to(dtype)
        self.uniform = rows.sides is None and bool((rows.lengths == rows.longest).all())
        if self.uniform:
            self.shape, self.bias = (len(rows.lengths), rows.longest), bias
            return
        self.blocks = [
            ((R, S), block.vector_RS.flatten(), _masked(bias, block))
            for block in rows.blocks
            for R, S in [block.mask_RS.shape]
        ]
        real = torch.cat([block.mask_RS.flatten() for block in rows.blocks])
        vector = torch.cat([index for _, index, _ in self.blocks])
        # Where each vector stands among all blocks' places.
        self.place_X = torch.empty_like(rows.row_X)
        places = real.nonzero()[:, 0]
        self.place_X[vector[places]] = places

    def __call__(self, q_XHh: Tensor, k_XHh: Tensor, v_XHh: Tensor) -> Tensor:
        """Mixed values [X, H, h]."""
        if self.uniform:
            return _attend((q_XHh, k_XHh, v_XHh), self.shape, self.bias)
        mixed = [
            _attend([x.index_select(0, index) for x in (q_XHh, k_XHh, v_XHh)], shape, bias)
            for shape, index, bias in self.blocks
        ]
        return torch.cat(mixed).index_select(0, self.place_X)


def _attend(qkv: Sequence[Tensor], shape: tuple[int, int], bias: Tensor) -> Tensor:
    """[R * S, H, h] from queries, keys and values of that shape; bias broadcastable to [R, H, S, S]."""
    q, k, v = (x.unflatten(0, shape).transpose(1, 2) for x in qkv)
    # T5 folds the usual 1 / sqrt(h) into its initialisation.
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
    return mixed.transpose(1, 2).flatten(0, 1)


def _masked(bias: Tensor, block: Block) -> Tensor:
    """[R, H, S, S]: the bias, with padding hidden, and what else a vector doesn't see."""
    (R, S), H = block.mask_RS.shape, bias.shape[1]
    out = bias.new_empty(R, H, S, -(-S // _ALIGNED) * _ALIGNED)[..., :S]
    return torch.add(bias[:, :, :S, :S], block.bias.to(bias.dtype), out=out)


class SeenBlocks(NamedTuple):
    """Which blocks of keys each block of queries sees, in FlexAttention's layout; int32.

    The mask is symmetric, so that these are also the blocks of queries that see a block of keys.

    Attributes:
        partly: [1, 1, n], how many are seen in part.
        partly_at: [1, 1, n, n], their numbers first.
        fully: [1, 1, n], how many are seen by every query as a whole; they need no mask.
        fully_at: [1, 1, n, n].
    """

    partly: Tensor
    partly_at: Tensor
    fully: Tensor
    fully_at: Tensor

    @classmethod
    def of(cls, rows: Rows, size: int = BLOCK) -> SeenBlocks:
        """From the rows' places alone: a mask of all pairs of vectors would be too large to look at."""
        X, row_X = len(rows.row_X), rows.row_X
        first_n = torch.arange(0, X, size, device=row_X.device)
        first_row_n = row_X[first_n]
        last_row_n = row_X[(first_n + size - 1).clamp(max=X - 1)]
        from_n, to_n = rows.starts[first_row_n] // size, (rows.starts[last_row_n + 1] - 1) // size
        # A block sees its own vectors, and at each end all but one of a row, in blocks that begin anywhere.
        W = min(len(first_n), 2 * ((rows.longest + size - 2) // size) + 1)
        number_W = torch.arange(W, device=row_X.device)
        block_nW = from_n[:, None] + number_W
        seen_nW = block_nW <= to_n[:, None]
        block_nW = block_nW.clamp(max=len(first_n) - 1)
        one_row_n = (first_row_n == last_row_n) & (first_n + size <= X)
        same_row_nW = first_row_n[block_nW] == first_row_n[:, None]
        fully_nW = seen_nW & same_row_nW & one_row_n[block_nW] & one_row_n[:, None]
        return cls(*_listed(seen_nW & ~fully_nW, block_nW), *_listed(fully_nW, block_nW))


def _listed(chosen_nW: Tensor, block_nW: Tensor) -> tuple[Tensor, Tensor]:
    """How many are chosen, and their numbers in front of others."""
    order_nW = (~chosen_nW).to(torch.int8).argsort(dim=1, stable=True)
    n, W = block_nW.shape
    at_nn = torch.zeros(n, n, dtype=torch.int32, device=block_nW.device)
    at_nn[:, :W] = block_nW.gather(1, order_nW)
    return chosen_nW.sum(1, dtype=torch.int32)[None, None], at_nn[None, None]


class FlexRows:
    """Attention with FlexAttention, over the packed vectors as they stand.

    Args:
        layers: whose relative bias counts.
        rows: where rows begin and end.
    """

    def __init__(self, layers: EncoderLayers, rows: Rows) -> None:
        self.layers, self.rows = layers, rows
        # From this distance on the bias stays the same.
        assert layers.relative_bias is not None
        self.bias_Hd = layers.bias_by_distance(layers.relative_bias.max_distance)
        self.blocks = SeenBlocks.of(rows)
        # Sizes that change from batch to batch, and must not compile the kernel anew.
        for counts, numbers in (self.blocks[:2], self.blocks[2:]):
            _varying(counts, 2)
            _varying(numbers, 2, 3)
        self.row_X = _varying(rows.row_X.int(), 0)

    def __call__(self, q_XHh: Tensor, k_XHh: Tensor, v_XHh: Tensor) -> Tensor:
        """Mixed values [X, H, h]."""

        def padded() -> Tensor:
            # FlexAttention uncompiled would score all pairs of vectors.
            return PaddedRows(self.layers, self.rows, q_XHh.dtype)(q_XHh, k_XHh, v_XHh)[None].transpose(1, 2)

        q, k, v = (_varying(x.transpose(0, 1)[None], 2) for x in (q_XHh, k_XHh, v_XHh))
        flex = compiled_flex()
        mixed: Tensor = flex(q, k, v, self.row_X, self.bias_Hd, self.blocks, instead=padded)
        return mixed[0].transpose(0, 1)


def packed_attention(
    q_1HXh: Tensor, k_1HXh: Tensor, v_1HXh: Tensor, row_X: Tensor, bias_Hd: Tensor, blocks: SeenBlocks
) -> Tensor:
    """Attention [1, H, X, h] of every row to itself, with FlexAttention.

    Args:
        q_1HXh: queries of all rows.
        k_1HXh: keys.
        v_1HXh: values.
        row_X: the row of each vector.
        bias_Hd: [H, 2 d + 1] by distance, -d to d.
        blocks: of the rows.
    """
    X, d = len(row_X), bias_Hd.shape[1] // 2

    # Within a row, places differ as positions do.
    def biased(score: Tensor, b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score + bias_Hd[h, (key - query).clamp(-d, d) + d]

    def same_row(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return row_X[query] == row_X[key]

    mask = BlockMask(
        seq_lengths=(X, X),
        kv_num_blocks=blocks.partly,
        kv_indices=blocks.partly_at,
        full_kv_num_blocks=blocks.fully,
        full_kv_indices=blocks.fully_at,
        q_num_blocks=blocks.partly,
        q_indices=blocks.partly_at,
        full_q_num_blocks=blocks.fully,
        full_q_indices=blocks.fully_at,
        BLOCK_SIZE=(BLOCK, BLOCK),
        mask_mod=same_row,
    )
    return flex_attention(q_1HXh, k_1HXh, v_1HXh, score_mod=biased, block_mask=mask, scale=1.0)


@functools.cache
def compiled_flex() -> Compiled:
    """`packed_attention`, compiled."""
    return Compiled(packed_attention)


def _varying(x: Tensor, *dimensions: int) -> Tensor:
    for dimension in dimensions:
        torch._dynamo.maybe_mark_dynamic(x, dimension)
    return x
