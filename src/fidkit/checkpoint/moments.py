"""Second moments beside a checkpoint, in `training/moments.safetensors`.

Of each trained parameter, under its name and in its shape, the mean square of its gradient as an optimiser
had it (`fidkit.train.loop.moments`). FiDO's authors found fine-tuning better with those of pre-training
(appendix A).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fidkit.checkpoint.directory import read_tensors, replace_file
from fidkit.checkpoint.shapes import compare
from fidkit.errors import CheckpointError

FILE = "training/moments.safetensors"
VERSION = 1
_DIGITS = 18


@dataclass(frozen=True)
class Moments:
    """Second moments of a reader.

    Attributes:
        tensors: parameter name -> mean square of its gradient, float32, in the parameter's shape.
        steps: that the means are over.
    """

    tensors: Mapping[str, Tensor]
    steps: int


def save_moments(moments: Moments, directory: Path) -> None:
    """Write `training/moments.safetensors` in a checkpoint's directory."""
    path = directory / FILE
    if path.parent.is_symlink():
        raise CheckpointError(f"{path.parent}: is a link to elsewhere, nothing is written there; delete it")
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().float().cpu().contiguous() for name, t in moments.tensors.items()}
    metadata = {"format": "pt", "format_version": str(VERSION), "steps": str(moments.steps)}
    replace_file(path, lambda new: save_file(tensors, new, metadata=metadata))


def load_moments(directory: Path) -> Moments | None:
    """What `save_moments` wrote; None where there is nothing.

    Raises:
        CheckpointError: damaged, or of a newer format.
    """
    path = directory / FILE
    if not path.exists():
        return None
    try:
        if not path.is_file():
            raise OSError("it is no file")
        with safe_open(path, framework="pt") as file:
            said = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: expected a safetensors file, but {error}; delete it to go on without second moments"
        ) from error
    version, steps = (said.get(name, "") for name in ("format_version", "steps"))
    if not (version.isdecimal() and len(version) < _DIGITS and int(version) <= VERSION):
        raise CheckpointError(
            f"{path}: format_version is {said.get('format_version')!r}, this fidkit reads up to {VERSION}; "
            "upgrade fidkit, or delete it to go on without second moments"
        )
    if not (steps.isdecimal() and len(steps) < _DIGITS):
        raise CheckpointError(
            f"{path}: is of {steps!r:.99} steps, expected a number; delete it to go on without"
        )
    return Moments(read_tensors(path), int(steps))


def check_moments(moments: Moments, shapes: Mapping[str, torch.Size], where: str) -> None:
    """Require that each is of a parameter, in its shape; not every parameter needs one.

    Raises:
        CheckpointError: lists those that aren't.
    """
    known = {name: shape for name, shape in shapes.items() if name in moments.tensors}
    remedy = "delete it to go on without second moments"
    compare(known, moments.tensors, where, remedy)
