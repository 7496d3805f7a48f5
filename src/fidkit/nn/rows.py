"""Rows as PyTorch's layers attend to them: in blocks of nearly one length."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fidkit.nn.positions import HIDDEN, key_mask_bias
from fidkit.rows import Layout, Sides

# Rows share a padded block for attention while the shortest is at least this long beside the longest.
_NEARLY = 0.8
# Pairs of positions in a small block: float32 scores of 12 heads take 3 MB.
_FEW_PAIRS = 2**16


class Rows(Layout):
    """A layout of tensors, with its blocks."""

    @cached_property
    def blocks(self) -> list[Block]:
        """Rows of nearly one length together, so that attention pads little."""
        return list(self._blocks())

    @cached_property
    def small_blocks(self) -> list[Block]:
        """The same rows in blocks that fit into a CPU's cache; a long row stands alone."""
        return list(self._blocks(_FEW_PAIRS))

    def _blocks(self, pairs: int = sys.maxsize) -> Iterator[Block]:
        order = self.lengths.argsort(descending=True)
        lengths = self.lengths[order].tolist()
        first, nearly = 0, 1.0 if self.alone else _NEARLY
        while first < len(lengths) and lengths[first]:
            end, last = first + 1, first + max(1, pairs // lengths[first] ** 2)
            while end < min(last, len(lengths)) and lengths[end] >= nearly * lengths[first] and lengths[end]:
                end += 1
            yield self._block(order[first:end], lengths[first])
            first = end

    def _block(self, rows: Tensor, width: int) -> Block:
        position = torch.arange(width, device=rows.device)[None]
        mask = position < self.lengths[rows][:, None]
        seen = None if self.sides is None else who_sees(self.sides, rows, position)
        return Block((self.starts[rows][:, None] + position).masked_fill(~mask, 0), mask, seen)


@dataclass(frozen=True)
class Block:
    """Some rows, padded to the longest of them.

    Attributes:
        vector_RS: which of the X vectors stands there; 0 at padding.
        mask_RS: True where a vector is real.
        seen_RSS: True where a vector attends to another, real or not; None where all do.
    """

    vector_RS: Tensor
    mask_RS: Tensor
    seen_RSS: Tensor | None = None

    @cached_property
    def bias(self) -> Tensor:
        """Additive bias [R, 1, 1, S], or [R, 1, S, S], that hides what is not seen."""
        bias = key_mask_bias(self.mask_RS)
        return bias if self.seen_RSS is None else bias.masked_fill(~self.seen_RSS[:, None], HIDDEN)

    @cached_property
    def pads(self) -> bool:
        """Whether some row is shorter than the block."""
        return len(self.mask_RS) > 1 and not bool(self.mask_RS.all())

    @property
    def hides(self) -> bool:
        """Whether the bias hides anything."""
        return self.pads or self.seen_RSS is not None

    @cached_property
    def _first(self) -> int:
        return int(self.vector_RS[0, 0])

    @cached_property
    def _real(self) -> tuple[Tensor, Tensor]:
        """Places of real vectors in the block, and which of the X vectors they are."""
        return self.mask_RS.flatten().nonzero()[:, 0], self.vector_RS[self.mask_RS]

    def take(self, x_XHh: Tensor) -> Tensor:
        """Its vectors, contiguous [R, H, S, h]."""
        R, S = self.mask_RS.shape
        own = x_XHh[self._first : self._first + S] if R == 1 else x_XHh[self.vector_RS.flatten()]
        return own.unflatten(0, (R, S)).transpose(1, 2).contiguous()

    def put(self, into_XHh: Tensor, x_RHSh: Tensor) -> None:
        """Write real vectors where they belong."""
        own = x_RHSh.transpose(1, 2).flatten(0, 1)
        if len(self.mask_RS) == 1:
            into_XHh[self._first : self._first + len(own)] = own
        else:
            place, vector = self._real
            into_XHh.index_copy_(0, vector, own.index_select(0, place))


def who_sees(sides: Sides, rows: Tensor, position_1S: Tensor) -> Tensor:
    """[rows, S, S], True where a position (first) attends to another (last)."""
    front_RS = position_1S < sides.front_R[rows][:, None]
    query, key = front_RS[:, :, None], front_RS[:, None, :]
    beyond = query if sides.front_sees else torch.zeros_like(query)
    return (query == key) | beyond | (~query if sides.behind_sees else torch.zeros_like(query))
