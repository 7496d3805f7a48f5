"""The optimiser of a run."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from fidkit.nn.positions import PositionTable
from fidkit.reader import Reader
from fidkit.train.optimisers import Adafactor, AdamW, ScaledAdamW
from fidkit.train.specs import OptimiserSpec


def make_optimiser(spec: OptimiserSpec, reader: Reader, auxiliary: nn.Module) -> torch.optim.Optimizer:
    """What the recipe asks for, over all that is trained, in two groups.

    With AdamW of either kind, the reader's matrices decay; norms, position biases and the auxiliary heads do
    not. With the others nothing does.
    """
    spared = {id(m.weight) for m in reader.modules() if isinstance(m, PositionTable)}
    trained = [p for p in reader.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim > 1 and id(p) not in spared]
    others = [p for p in trained if p.ndim <= 1 or id(p) in spared]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": [*others, *auxiliary.parameters()]}]
    if spec.kind == "hybrid":
        return Adafactor(groups, spec.rate, decay=spec.decay)
    if spec.kind == "adafactor":
        return Adafactor(groups, spec.rate, decay=None, factored=True)
    for group, decay in zip(groups, (spec.weight_decay, 0.0), strict=True):
        group["weight_decay"] = decay
    groups = [part for group in groups for part in _unmixed(group)]
    if spec.kind == "adamw-scaled":
        return ScaledAdamW(groups, spec.rate, betas=spec.betas)
    return AdamW(groups, lr=spec.rate, betas=spec.betas, fused=True)


def _unmixed(group: dict[str, Any]) -> list[dict[str, Any]]:
    """A group of shards and one of whole parameters, where there are both: torch's kernels mix none."""
    parts = [[p for p in group["params"] if isinstance(p, DTensor) is sharded] for sharded in (True, False)]
    return [group | {"params": part} for part in parts if part] or [group]
