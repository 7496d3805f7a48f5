"""The optimiser of a run."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from fidkit.nn.positions import PositionTable
from fidkit.reader import Reader
from fidkit.train.optimisers import Adafactor, AdamW, ScaledAdamW
from fidkit.train.optimisers.parts import parts_of
from fidkit.train.specs import OptimiserSpec


def make_optimiser(spec: OptimiserSpec, reader: Reader, auxiliary: nn.Module) -> torch.optim.Optimizer:
    """What the recipe asks for, over all that is trained.

    With AdamW of either kind, the reader's matrices decay; norms, position biases and the auxiliary heads do
    not. With the others nothing does. Each group of parameters says as `factor` what the rate is multiplied
    by in it (`set_rate`).
    """
    spared = {id(m.weight) for m in reader.modules() if isinstance(m, PositionTable)}
    trained = [p for p in reader.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim > 1 and id(p) not in spared]
    others = [p for p in trained if p.ndim <= 1 or id(p) in spared]
    heads = [p for p in auxiliary.parameters() if p.requires_grad]
    groups = _by_rate({"params": matrices}, spec, reader, auxiliary)
    decaying = len(groups)
    groups += _by_rate({"params": [*others, *heads]}, spec, reader, auxiliary)
    if spec.kind == "hybrid":
        return Adafactor(groups, spec.rate, decay=spec.decay)
    if spec.kind == "adafactor":
        return Adafactor(groups, spec.rate, decay=None, factored=True)
    for number, group in enumerate(groups):
        group["weight_decay"] = spec.weight_decay if number < decaying else 0.0
    groups = [part for group in groups for part in _unmixed(group)]
    if spec.kind == "adamw-scaled":
        return ScaledAdamW(groups, spec.rate, betas=spec.betas)
    return AdamW(groups, lr=spec.rate, betas=spec.betas, fused=True)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """The rate of the step to come, in each group times its factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]


def _by_rate(
    group: dict[str, Any], spec: OptimiserSpec, reader: Reader, auxiliary: nn.Module
) -> list[dict[str, Any]]:
    """The group, or one for each factor where parts of the reader have rates of their own."""
    part = parts_of(reader, auxiliary)
    by_factor: dict[float, list[Tensor]] = {}
    for p in group["params"]:
        by_factor.setdefault(spec.rates.get(part[p], 1.0), []).append(p)
    found = [group | {"params": params, "factor": factor} for factor, params in by_factor.items()]
    return found or [group | {"factor": 1.0}]


def _unmixed(group: dict[str, Any]) -> list[dict[str, Any]]:
    """A group of shards and one of whole parameters, where there are both: torch's kernels mix none."""
    parts = [[p for p in group["params"] if isinstance(p, DTensor) is sharded] for sharded in (True, False)]
    return [group | {"params": part} for part in parts if part] or [group]
