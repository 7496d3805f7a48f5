"""What a decoder reads and writes tokens with."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from fidkit.checkpoint.stored import Weight
from fidkit.config import ReaderConfig
from fidkit.engine.cpu.weights import Weights

_ROWS = 1024
"""Of a table of 8 bits that become floats together, and stay in the cache meanwhile."""


class Words(Protocol):
    """Vectors of tokens, [V, E].

    Attributes:
        table: their matrix, or what it is made of.
        mean: [E] of all rows of a standardised table of 8 bits, else None.
        shift: [V] float32, what its rows are multiplied by then.
    """

    @property
    def table(self) -> Weight: ...

    mean: np.ndarray | None
    shift: np.ndarray | None

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """[..., E] float32 of tokens [...], in memory of their own."""
        ...


class StoredWords:
    """Of a table as it is, or standardised (`fidkit.nn.blocks.standardised`).

    A table of 8 bits stays so. A standardised row is `shift` times what it was less `mean`, so that products
    with all of them are products with the table and one number more.

    Args:
        config: of the reader.
        weights: its parameters.

    Attributes:
        table: as it is stored, or standardised already where it is of floats.
    """

    def __init__(self, config: ReaderConfig, weights: Weights) -> None:
        own = weights.get("decoder.embedding.weight")
        self.table = weights["embedding.weight"] if own is None else own
        self.mean: np.ndarray | None = None
        self.shift: np.ndarray | None = None
        if own is None and config.standardised_embedding:
            if self.table.scale is None:
                self.table = Weight(_standardised(self.table.floats()))
            else:
                self.mean, self.shift = _statistics(self.table.values, self.table.scale)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """[..., E] float32 of tokens [...], in memory of their own."""
        rows = self.table.rows(np.asarray(ids))
        if self.mean is None or self.shift is None:
            return rows
        rows -= self.mean
        rows *= self.shift[ids][..., None]
        return rows


def _standardised(table_VE: np.ndarray) -> np.ndarray:
    centred = table_VE - table_VE.mean(0, dtype=np.float64).astype(np.float32)
    lengths_V = np.maximum(np.sqrt(np.einsum("ve,ve->v", centred, centred)), np.float32(1e-12))
    return centred * (np.float32(table_VE.shape[1] ** 0.5) / lengths_V)[:, None]


def _statistics(values_VE: np.ndarray, scale_V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean row, and root of the width over the length of each row less the mean."""
    parts = [slice(first, first + _ROWS) for first in range(0, len(values_VE), _ROWS)]
    sum_E = np.zeros(values_VE.shape[1])
    for part in parts:
        sum_E += scale_V[part] @ values_VE[part].astype(np.float32)
    mean = (sum_E / len(values_VE)).astype(np.float32)
    lengths_V = np.empty(len(values_VE), np.float32)
    for part in parts:
        centred = values_VE[part] * scale_V[part, None]
        centred -= mean
        lengths_V[part] = np.sqrt(np.einsum("ve,ve->v", centred, centred))
    return mean, np.float32(values_VE.shape[1] ** 0.5) / np.maximum(lengths_V, np.float32(1e-12))
