"""Matrices rounded to 8 bits: a quarter of the bytes in a file. What is computed with is floats again."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fidkit.checkpoint.files import SCALE
from fidkit.checkpoint.shapes import scale_of

_FEWEST = 4096
"""Smaller matrices are kept as they are."""


def to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix [rows, columns] -> int8 of the same shape and float32 scales [rows]: the largest is 127."""
    scale = (weight.float().abs().amax(1) / 127).clamp(min=1e-12)
    return (weight.float() / scale[:, None]).round().to(torch.int8), scale


def rounded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices as int8, each with the scales of its rows; all else as float32."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim == 2 and tensor.numel() >= _FEWEST:
            found[name], found[name + SCALE] = to_int8(tensor)
        else:
            found[name] = tensor.float()
    return found


def restored(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Floats for all matrices that were rounded; tensors that weren't are left as they are.

    Raises:
        CheckpointError: scales that aren't those of a matrix.
    """
    found = dict(tensors)
    for name, tensor in tensors.items():
        # What has no scales at all was rounded by others, and is refused by those who make parameters of it.
        scale = scale_of(name, tensors, where) if name + SCALE in tensors else None
        if scale is not None:
            found[name] = tensor.float() * scale.float()[:, None]
            del found[name + SCALE]
    return found
