"""Weights as NumPy's arrays, and as the kernels read them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fidkit.checkpoint.stored import Weight
from fidkit.native import Array, Bits, Kernels, Packed, address

Rounding = Literal["never", "lossless", "always"]
"""Which matrices are kept in 8 bits, with a scale a row: those that lose nothing were stored so before."""

_ALL_OF_8_BITS = 127

_LAID_OUT = re.compile(r"encoder\.layers\.|cross_attention\.(key|value)\.|^memory_projection\.")
"""In the names of matrices that many vectors meet at once."""

Weights = Mapping[str, Weight]
"""Parameters of a reader by name."""


def within(weights: Weights, prefix: str) -> dict[str, Weight]:
    """Those whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def activation_bits(rounding: Rounding, kernels: Kernels) -> Bits:
    """Bits of activations where many vectors meet a matrix.

    8 of them change few answers, for better or worse, and are twice as fast as 16 where a CPU has an
    instruction for it. Elsewhere they would be fewer than 8 and hardly faster: there only who asks for them
    gets them.
    """
    if rounding == "never":
        return 32
    return 8 if rounding == "always" or kernels.most_of_8_bits == _ALL_OF_8_BITS else 16


def to_int8(matrix: np.ndarray) -> Weight:
    """A float32 matrix in 8 bits: the largest number of a row is 127 times its scale."""
    scale = np.maximum(np.abs(matrix).max(1) / np.float32(127), np.float32(1e-12))
    return Weight(np.rint(matrix / scale[:, None]).astype(np.int8), scale)


def rounded(weight: Weight, rounding: Rounding) -> Weight:
    """A matrix as products read it: in 8 bits, where it is stored so or is to be so, else in float32."""
    if weight.scale is not None and rounding != "never":
        return weight
    if rounding == "always":
        return to_int8(weight.floats())
    return Weight(np.ascontiguousarray(weight.floats()))


def joined(weights: Sequence[Weight]) -> Weight:
    """Matrices one below the other, or vectors one behind the other; in 8 bits if all are."""
    if all(weight.scale is not None for weight in weights):
        scales = np.concatenate([weight.scale for weight in weights if weight.scale is not None])
        return Weight(np.concatenate([weight.values for weight in weights]), scales)
    return Weight(np.concatenate([weight.floats() for weight in weights]))


def laid_out_bytes(weights: Weights, rounding: Rounding) -> int:
    """Memory that matrices take which are laid out, about; a decoder's own are read where they are."""
    total = 0
    for name, weight in weights.items():
        if len(weight.shape) == 2 and _LAID_OUT.search(name):
            in_8_bits = rounding == "always" or (rounding == "lossless" and weight.scale is not None)
            total += math.prod(weight.shape) * (1 if in_8_bits else 4)
    return total


@dataclass(frozen=True)
class LaidOut:
    """A matrix [E, D] as `products.h` reads it.

    Attributes:
        values: [vectors of rows, slots of columns, lanes, elements of a slot], float32 or int8; uint8, with
            128 added, for activations of 8 bits.
        scale: [E], filled up, of integers only.
        bias: [E], filled up, or None.
        shape: E and D.
        activations: that it is laid out for.
    """

    values: np.ndarray
    scale: np.ndarray | None
    bias: np.ndarray | None
    shape: tuple[int, int]
    activations: Bits

    @classmethod
    def of(cls, matrix: Weight, bias: np.ndarray | None, lanes: int, activations: Bits) -> LaidOut:
        """Lay a matrix out: of int8 for `activations` of as many bits, of float32 for floats."""
        E, D = matrix.shape
        if matrix.scale is None:
            activations = 32
        depth = 32 // activations
        filled = np.ascontiguousarray(np.pad(matrix.values, ((0, -E % lanes), (0, -D % depth))))
        if activations == 8:
            filled = filled.view(np.uint8) ^ np.uint8(128)
        # A slot moves as one number: NumPy would take its few bytes one by one, which takes 8 times as long.
        whole = filled.view(f"u{depth * filled.itemsize}")
        slots = np.ascontiguousarray(whole.reshape(-1, lanes, whole.shape[1]).swapaxes(1, 2))
        values = slots.view(filled.dtype).reshape(*slots.shape, depth)
        scale, bias = (None if x is None else np.pad(x, (0, -E % lanes)) for x in (matrix.scale, bias))
        return cls(values, scale, bias, (E, D), activations)

    def packed(self) -> Packed:
        """What kernels read; it holds while this does."""
        return Packed(*(address(x) for x in (self.values, self.scale, self.bias)), *self.shape)

    def __call__(self, kernels: Kernels, x_XD: Array) -> Array:
        """[X, D] -> [X, E], float32: `x` times the matrix, plus its bias."""
        return kernels.product(x_XD, self.packed(), self.activations)
