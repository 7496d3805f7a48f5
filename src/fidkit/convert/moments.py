"""Second moments beside a checkpoint, and through a change of shape.

Of each trained parameter, under its name and in its shape, the mean square of its gradient as an optimiser
had it (`fidkit.train.loop.moments`). FiDO's authors found fine-tuning better with those of pre-training
(appendix A). Means of heads or layers have the mean of their moments, and copies have copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fidkit import checkpoint
from fidkit.config import ReaderConfig
from fidkit.convert.grow import move_layers
from fidkit.convert.heads import USUAL, merge_moments
from fidkit.convert.notes import Notes
from fidkit.convert.reshape import TABLE, Knobs, reshape_weights
from fidkit.errors import CheckpointError
from fidkit.reader import Reader

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
    checkpoint.replace_file(path, lambda new: save_file(tensors, new, metadata=metadata))


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
    return Moments(checkpoint.read_tensors(path), int(steps))


def check_moments(moments: Moments, shapes: Mapping[str, torch.Size], where: str) -> None:
    """Require that each is of a parameter, in its shape; not every parameter needs one.

    Raises:
        CheckpointError: lists those that aren't.
    """
    known = {name: shape for name, shape in shapes.items() if name in moments.tensors}
    remedy = "delete it to go on without second moments"
    checkpoint.compare(known, moments.tensors, where, remedy)


def reshape_moments(config: ReaderConfig, moments: Moments, **knobs: Unpack[Knobs]) -> Moments:
    """Moments of a reader of `config` for what `reshape` with these `knobs` makes of it.

    What is drawn or starts at zero has none: scores, a projection of memory, a memory encoder that was taken
    from elsewhere, and whatever has grown.
    """
    tensors = dict(moments.tensors)
    if knobs.get("live_layers") is not None:
        tensors = {name: t for name, t in tensors.items() if not _is_copy(config, name)}
    if knobs.get("memory_encoder") is not None:
        tensors = {name: t for name, t in tensors.items() if not name.startswith("memory_")}
    stack, others = knobs.get("decoder"), Knobs(**knobs)
    others["decoder"] = None
    if (heads := knobs.get("kv_heads")) is not None:
        config, tensors = merge_moments(config, tensors, heads, knobs.get("kv_heads_from") or USUAL)
        others["kv_heads"] = None
    new, tensors, _ = reshape_weights(config, tensors, None, **others)
    if stack is not None:
        tensors = move_layers(new, tensors, stack)
    drawn: tuple[str, ...] = ()
    if knobs.get("memory_encoder") is not None:
        drawn += ("memory_",)
    if knobs.get("rerank") is not None:
        drawn += ("reranker.",)
    return Moments({name: t for name, t in tensors.items() if not name.startswith(drawn)}, moments.steps)


def carry_moments(source: str | Path, reader: Reader, destination: Path, **knobs: Unpack[Knobs]) -> Notes:
    """Write those beside `source` beside `destination`, for the `reader` that it was converted to.

    Raises:
        CheckpointError: they are damaged, or belong to another reader than the one beside them.
    """
    directory = Path(source)
    moments = load_moments(directory)
    if moments is None:
        return Notes()
    config = ReaderConfig.load(directory / checkpoint.CONFIG)
    before = Reader.without_weights(config)
    check_moments(moments, {n: p.shape for n, p in before.named_parameters()}, str(directory / FILE))
    reshaped = reshape_moments(config, moments, **knobs)
    shapes = {name: p.shape for name, p in reader.named_parameters()}
    kept = {name: t for name, t in reshaped.tensors.items() if shapes.get(name) == t.shape}
    save_moments(Moments(kept, moments.steps), destination)
    trained = sum(p.requires_grad for p in reader.parameters())
    remark = f"carried the second moments of {len(kept)} tensors"
    fresh = sum(p.requires_grad for name, p in reader.named_parameters() if name not in kept)
    return Notes(remarks=(f"{remark}; {fresh} of {trained} start without" if fresh else remark,))


def _is_copy(config: ReaderConfig, name: str) -> bool:
    """Of a parameter that the conversion takes as equal to another one, whose moment is taken instead."""
    if name == f"live_encoder.{TABLE}":
        return bool(config.question_layers)
    return name.startswith("memory_encoder.") and config.memory_encoder is None
