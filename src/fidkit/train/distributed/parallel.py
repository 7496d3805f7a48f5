"""How a reader lies in the processes of a group: whole in each (`ddp`), or sharded over all (`fsdp`).

Either way gradients are summed and losses are divided by the whole batch, so a step is the step of one
process with the same batch. Sharded, no process holds more than its part of weights, gradients and
optimiser, and one layer's weights at a time come together while it runs (PyTorch's `fully_shard`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from fidkit import checkpoint
from fidkit.nn.attention import CrossAttention
from fidkit.nn.blocks import DecoderLayer, EncoderLayer
from fidkit.reader import Reader
from fidkit.train.data.examples import Example
from fidkit.train.distributed.group import Group
from fidkit.train.losses.objectives import Objectives
from fidkit.train.recipe import Recipe
from fidkit.train.specs import StageSpec

# Keys and values are views, which nothing here changes in place.
warnings.filterwarnings("ignore", message=r"FSDP2-wrapped module .* returned a view tensor")


class Losses(nn.Module):
    """The objectives as one module, so that what shards a reader sees where a forward pass begins."""

    def __init__(self, objectives: Objectives) -> None:
        super().__init__()
        self.reader, self.auxiliary = objectives.reader, objectives.auxiliary
        self.objectives = objectives

    def forward(self, part: Sequence[Example], stage: StageSpec) -> dict[str, Tensor]:
        return self.objectives.losses(part, stage)


class Parallelism(Protocol):
    """How a reader lies in the processes."""

    def share(self, part: Sequence[Example]) -> tuple[Sequence[Example], float]:
        """What this process takes of a batch, and the weight of its losses: 0 where it only keeps step."""

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Give every parameter, or this process's part of it, the gradient of the whole batch."""

    def clip(self, parameters: Iterable[Tensor], limit: float) -> float:
        """Scale gradients to a norm of `limit` at most; the norm before."""


class Replicated:
    """Every process has the whole reader; a process alone, too."""

    def __init__(self, group: Group) -> None:
        self.group = group

    def share(self, part: Sequence[Example]) -> tuple[Sequence[Example], float]:
        return self.group.share(part), 1.0

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        self.group.sum_gradients(parameters)

    def clip(self, parameters: Iterable[Tensor], limit: float) -> float:
        return float(nn.utils.clip_grad_norm_(parameters, limit))


class Sharded:
    """Every process has a part of the reader; the auxiliary heads are small and whole in each.

    Args:
        group: of two processes or more.
        losses: whose reader is sharded in place; before an optimiser knows its parameters.
        bfloat16: layers come together in bfloat16; parts, gradients and sums stay float32.
    """

    def __init__(self, group: Group, losses: Losses, *, bfloat16: bool) -> None:
        self.group = group
        mesh = init_device_mesh(losses.reader.embedding.weight.device.type, (group.size,))
        kept = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
        halved = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if bfloat16 else None,
            reduce_dtype=torch.float32,
            cast_forward_inputs=False,  # the residual stream stays float32; autocast casts what products read
        )
        for module in _units(losses.reader):
            fully_shard(module, mesh=mesh, mp_policy=halved)
            if isinstance(module, CrossAttention):
                register_fsdp_forward_method(module, "keys_values")
        fully_shard(losses, mesh=mesh, mp_policy=kept, ignored_params=set(losses.auxiliary.parameters()))
        for module in losses.modules():
            if isinstance(module, FSDPModule):
                # A sum, as losses are divided by the whole batch already.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)

    def share(self, part: Sequence[Example]) -> tuple[Sequence[Example], float]:
        # All must run all layers together: who has nothing to do reads along, and it counts nothing.
        own = self.group.share(part)
        return (own, 1.0) if own else (part[:1], 0.0)

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        self.group.sum_gradients(p for p in parameters if not isinstance(p, DTensor))

    def clip(self, parameters: Iterable[Tensor], limit: float) -> float:
        grads = [p.grad for p in parameters if p.grad is not None]
        sharded = [g.to_local() for g in grads if isinstance(g, DTensor)]
        squares = torch.stack([g.float().square().sum() for g in sharded]).sum()
        distributed.all_reduce(squares)
        whole = [g.float().square().sum() for g in grads if not isinstance(g, DTensor)]
        norm = float(torch.stack([squares, *whole]).sum().sqrt())
        scale = min(1.0, limit / (norm + 1e-6)) if norm == norm else norm
        for g in grads:
            (g.to_local() if isinstance(g, DTensor) else g).mul_(scale)
        return norm


def _units(reader: Reader) -> Iterator[nn.Module]:
    """What comes together at a time: layers, and cross-attention, whose keys are projected beforehand."""
    for module in list(reader.modules()):
        if isinstance(module, DecoderLayer) and module.cross_attention is not None:
            yield module.cross_attention
        if isinstance(module, EncoderLayer | DecoderLayer):
            yield module


def lay_out(recipe: Recipe, group: Group, losses: Losses) -> Parallelism:
    """As the recipe says; a process alone has the whole reader in any case."""
    if recipe.parallel == "ddp" or group.size == 1:
        return Replicated(group)
    return Sharded(group, losses, bfloat16=recipe.precision == "bfloat16")


# Weights


def whole_weights(reader: Reader, *, wanted: bool) -> dict[str, Tensor]:
    """A copy of all parameters by name, on the CPU; all processes call this, it is empty where not wanted."""
    weights = {}
    for name, parameter in reader.named_parameters():
        p = parameter.detach()
        p = p.full_tensor() if isinstance(p, DTensor) else p
        if wanted:
            weights[name] = p.to("cpu", copy=True).contiguous()
    return weights


@torch.no_grad()
def assign_weights(reader: Reader, tensors: Mapping[str, Tensor], where: str) -> None:
    """Give every parameter its tensor, or its part of it, in place.

    Raises:
        CheckpointError: as `fidkit.checkpoint.compare`.
    """
    parameters = dict(reader.named_parameters())
    shapes = {name: p.shape for name, p in parameters.items()}
    checkpoint.compare(shapes, tensors, where, "save or convert the reader again")
    for name, p in parameters.items():
        if isinstance(p, DTensor):
            # Every process has read the tensor, so nothing is sent.
            own = distribute_tensor(
                tensors[name].to(p.device), p.device_mesh, p.placements, src_data_rank=None
            )
            p.to_local().copy_(own.to_local())
        else:
            p.copy_(tensors[name])


def whole_reader(reader: Reader, weights: Mapping[str, Tensor], device: torch.device) -> Reader:
    """A plain reader with given weights, for what a sharded one can't do: answer."""
    plain = Reader.without_weights(reader.config, reader.tokenizer)
    checkpoint.assign(plain, {name: w.to(device) for name, w in weights.items()}, "the gathered weights")
    return plain
