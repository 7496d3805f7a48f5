"""The weights of a reader as they are stored: mapped, and looked at before anything is computed with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fidkit.checkpoint.files import SCALE, Directory, read_arrays
from fidkit.checkpoint.shapes import compare, refuse_broken, require_decoder, scale_of, shapes_of
from fidkit.checkpoint.shared import FILE as SHARED

_ENCODER = ("embedding.", "live_encoder.")
_MOST = 128
"""Of what stands in a matrix of 8 bits, without its sign."""


@dataclass(frozen=True)
class Weight:
    """A parameter as it is stored.

    Attributes:
        values: of any shape: floats, bfloat16 as its 16 bits (uint16), or int8.
        scale: [rows], float32, what rows of an int8 matrix are multiplied by; None of floats.
    """

    values: np.ndarray
    scale: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def floats(self) -> np.ndarray:
        """All of it as float32; not copied where it is so already."""
        return self._floats(self.values, self.scale)

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """[..., columns] float32 of a matrix, in memory of their own."""
        scale = None if self.scale is None else self.scale[numbers]
        return self._floats(self.values[numbers], scale)

    @staticmethod
    def _floats(values: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
        if values.dtype == np.uint16:
            return (values.astype(np.uint32) << 16).view(np.float32)
        floats = values.astype(np.float32, copy=False)
        if scale is not None:
            floats *= scale[..., None]  # of int8, so they are in memory of their own
        return floats


def stored_weights(directory: Directory) -> dict[str, Weight]:
    """All parameters of a reader by name.

    Raises:
        CheckpointError: lists what is missing, superfluous or of another shape, or not a finite number.
    """
    weights = _weights(directory)
    require_decoder(weights, directory.weights.parent)
    return _checked(directory, weights, shapes_of(directory.config))


def encoder_weights(directory: Directory) -> dict[str, Weight]:
    """The parameters of its embedding and live layers alone, by name.

    Raises:
        CheckpointError: as `stored_weights` does.
    """
    weights = {name: w for name, w in _weights(directory).items() if name.startswith(_ENCODER)}
    shapes = {name: s for name, s in shapes_of(directory.config).items() if name.startswith(_ENCODER)}
    return _checked(directory, weights, shapes)


def _weights(directory: Directory) -> dict[str, Weight]:
    path = directory.weights
    arrays = own = read_arrays(path)
    if directory.shared is not None:
        there = read_arrays(directory.shared.weights)
        arrays = {**directory.shared.take(there, path.with_name(SHARED)), **own}
    return _with_scales(arrays, str(path))


def _checked(
    directory: Directory, weights: dict[str, Weight], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Weight]:
    path, found = str(directory.weights), {name: weight.values for name, weight in weights.items()}
    compare(shapes, found, path, "save or convert the reader again")
    refuse_broken([name for name, weight in weights.items() if not _is_finite(weight)], path)
    return weights


def _with_scales(arrays: Mapping[str, np.ndarray], where: str) -> dict[str, Weight]:
    scales = {name: scale_of(name, arrays, where) for name in arrays}
    used = {name + SCALE for name, scale in scales.items() if scale is not None}
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is refused
        return {
            name: Weight(arrays[name], None if scale is None else scale.astype(np.float32, copy=False))
            for name, scale in scales.items()
            if name not in used
        }


def _is_finite(weight: Weight) -> bool:
    """Whether all numbers are; of a matrix of 8 bits its scales may not be, or take its numbers too far."""
    with np.errstate(over="ignore"):
        if weight.scale is None:
            looked_at = Weight(weight.values).floats()
        else:
            looked_at = weight.scale * np.float32(_MOST)
    return bool(np.isfinite(looked_at.min(initial=0)) and np.isfinite(looked_at.max(initial=0)))
