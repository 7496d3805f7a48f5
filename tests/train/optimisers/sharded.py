"""A few steps on parameters that are sharded, written by process 0."""

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from fidkit.errors import ConfigError
from fidkit.train.distributed.group import Group
from fidkit.train.optimisers import Adafactor, AdamW, ScaledAdamW

MAKE = {
    "hybrid": lambda ps: Adafactor(ps, 0.01, decay=0.9),
    "adamw-scaled": lambda ps: ScaledAdamW(ps, 0.01, weight_decay=0.1),
    # torch's own takes shards or whole tensors in a group.
    "adamw": lambda ps: AdamW([{"params": ps[:3]}, {"params": ps[3:]}], 0.01, fused=True),
    "adafactor": lambda ps: Adafactor(ps, 0.01, decay=None, factored=True),
}
# Rows that don't divide by two, and one that stands alone.
SHAPES = [(5, 3), (4,), (1, 6), (3, 2)]


def values(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def train(kind: str, shard) -> list[torch.Tensor]:
    """Weights after some steps, then the second moments; `shard` lays out each tensor but the last."""
    parameters = [nn.Parameter(shard(v) if n < 3 else v) for n, v in enumerate(values(0))]
    optimiser = MAKE[kind](parameters)
    for step in range(1, 6):
        if step == 4:  # on another optimiser, from the moments alone
            moments = [optimiser.second_moment(p) for p in parameters]
            optimiser = MAKE[kind](parameters)
            for p, moment in zip(parameters, moments, strict=True):
                optimiser.assume(p, *moment)
        for n, (p, g) in enumerate(zip(parameters, values(step), strict=True)):
            p.grad = shard(g) if n < 3 else g
        optimiser.step()
    found = [p.detach() for p in parameters]
    weights = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in found]
    return [*weights, *(optimiser.second_moment(p)[0] for p in parameters)]


def main(path: str) -> None:
    group = Group.join()
    mesh = init_device_mesh("cpu", (2,))
    found: dict = {}
    for kind in MAKE:
        for name, placement in (("shards", Shard(0)), ("replicas", Replicate())):
            try:
                found[f"{kind}, {name}"] = train(
                    kind, lambda t, to=placement: distribute_tensor(t, mesh, [to])
                )
            except ConfigError as error:
                found[f"{kind}, {name}"] = str(error)
    if group.leads:
        torch.save(found, path)
    group.leave()
