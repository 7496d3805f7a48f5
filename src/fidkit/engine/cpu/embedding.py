"""Vectors of tokens on a CPU without PyTorch."""

from __future__ import annotations

from typing import Literal

import numpy as np

from fidkit.config import ReaderConfig, StackConfig
from fidkit.engine.cpu.stack import LAYER_EPSILON
from fidkit.engine.cpu.weights import Weights
from fidkit.rows import Layout

Side = Literal["question", "passage"]


class Embedding:
    """Vectors of tokens, with what their family adds to them."""

    def __init__(self, config: ReaderConfig, stack: StackConfig, weights: Weights) -> None:
        self.table = weights["weight"]
        self.placed = stack.blocks.learned_positions
        if self.placed:
            self.first = {"question": 0, "passage": config.passage_position}
            types = weights["types.weight"].floats()
            # What a position and a type add is known before any text.
            positions = weights["positions.weight"].floats()
            self.positions = {"question": positions + types[0], "passage": positions + types[1]}
            self.norm = weights["norm.weight"].floats(), weights["norm.bias"].floats()

    def __call__(self, ids_X: np.ndarray, rows: Layout, side: Side) -> np.ndarray:
        """[X, width] float32, in memory of their own."""
        vectors_XD = self.table.rows(ids_X)
        if not self.placed:
            return vectors_XD
        table = self.positions[side]
        vectors_XD += table[np.minimum(self.first[side] + rows.position_X, len(table) - 1)]
        return _layer_normed(vectors_XD, *self.norm)


def _layer_normed(x_XD: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """In the memory of `x_XD`."""
    x_XD -= x_XD.mean(1, keepdims=True)
    squares_X1 = np.einsum("xd,xd->x", x_XD, x_XD)[:, None] / np.float32(x_XD.shape[1])
    x_XD /= np.sqrt(squares_X1 + np.float32(LAYER_EPSILON))
    x_XD *= weight
    x_XD += bias
    return x_XD
