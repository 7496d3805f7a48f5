"""Where ragged rows lie, one after the other without padding: what encoders work on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

from fidkit import arrays
from fidkit.arrays import Array


@dataclass(frozen=True)
class Sides:
    """Rows of two parts that don't both see each other; each part sees itself.

    Attributes:
        front_R: vectors of the part in front.
        front_sees: whether it attends to the part behind.
        behind_sees: whether that part attends to the one in front.
    """

    front_R: Array
    front_sees: bool
    behind_sees: bool


@dataclass(frozen=True)
class Layout:
    """Where R rows lie among the X vectors of all of them.

    Attributes:
        lengths: [R], vectors of each row; a row may be empty.
        sides: parts of the rows that don't see each other; None where every vector sees its whole row.
        alone: pad no row beside a longer one. Then what a row comes to is the same in any company, to the
            last bit; there are more blocks.
    """

    lengths: Array
    sides: Sides | None = None
    alone: bool = False

    @classmethod
    def of(cls, lengths: Array, sides: Sides | None = None) -> Self:
        return cls(lengths, sides)

    @cached_property
    def starts(self) -> Array:
        """[R + 1]: row r is `starts[r] : starts[r + 1]`."""
        none = arrays.full((1,), 0, self.lengths, "int64")
        return arrays.concatenate([none, self.lengths.cumsum(0)])

    @cached_property
    def row_X(self) -> Array:
        """Which row each vector belongs to."""
        return arrays.repeated(arrays.arange(len(self.lengths), self.lengths), self.lengths)

    @cached_property
    def position_X(self) -> Array:
        """Position of each vector in its row."""
        return arrays.arange(len(self.row_X), self.lengths) - self.starts[self.row_X]

    @cached_property
    def longest(self) -> int:
        return int(self.lengths.max()) if len(self.lengths) else 0

    def pack(self, x_RS: Array) -> Array:
        """[X, ...] of rows [R, S, ...] that are padded on the right."""
        return x_RS[self.row_X, self.position_X]
