"""Weights of 8 bits as floats, where what is stored says how; all others are refused."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fidkit import checkpoint
from fidkit.convert.notes import Notes
from fidkit.errors import CheckpointError

WEIGHT, SCALES, FORMAT = ".weight", ".SCB", ".weight_format"
"""How bitsandbytes stores a linear layer in int8: the largest magnitude of each row beside it."""
FLOAT8 = tuple(getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2") if hasattr(torch, name))
SCALING = ("scale", "scale_inv", "weight_scale", "weight_scale_inv", "input_scale", "absmax", "zero_point")


def plain_weights(tensors: Mapping[str, Tensor], where: str) -> tuple[dict[str, Tensor], Notes]:
    """Floats for int8 of bitsandbytes, and for float8 without scales.

    Raises:
        CheckpointError: other quantised weights; names one and its type.
    """
    scaled = {name for name in tensors if name.endswith(SCALES)}
    plain = {n: t for n, t in tensors.items() if n not in scaled and not n.endswith(FORMAT)}
    remarks: tuple[str, ...] = ()
    for scales in sorted(scaled):
        name = scales.removesuffix(SCALES) + WEIGHT
        plain[name] = _unscaled(plain.get(name), tensors[scales], f"{where}: {name}")
    if scaled:
        remarks = (f"{len(scaled)} matrices of int8 (bitsandbytes) were multiplied with their scales",)
    float8 = {name: t.dtype for name, t in plain.items() if t.dtype in FLOAT8}
    others = sorted(name for name in plain if name.rpartition(".")[2] in SCALING)
    if float8 and others:
        raise CheckpointError(
            f"{where}: holds float8 with scales ({others[0]}), whose layout isn't known; take the checkpoint "
            "that it was made from"
        )
    plain |= {name: plain[name].float() for name in float8}
    if float8:
        kinds = sorted({str(kind).removeprefix("torch.") for kind in float8.values()})
        remarks += (f"weights stored as {', '.join(kinds)} are kept as float32",)
    checkpoint.require_floats(plain, where)
    return plain, Notes(remarks=remarks)


def _unscaled(weight: Tensor | None, scales: Tensor, where: str) -> Tensor:
    if weight is None or weight.dtype != torch.int8 or weight.ndim != 2 or scales.shape != weight.shape[:1]:
        raise CheckpointError(
            f"{where}: expected an int8 matrix with a scale a row, as bitsandbytes stores it; take the "
            "checkpoint that it was made from"
        )
    return weight.float() * (scales.float() / 127)[:, None]
