"""Several processes that train as one: each takes a share of every batch, and gradients are summed.

    torchrun --nproc-per-node 2 -m fidkit train RECIPE.toml

All processes draw the same examples, so that losses are divided by the whole batch and nothing depends on
who takes which. A process alone is a group of one, for which all of this is the identity.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")
BUCKET = 1 << 24
"""Gradients that are summed in one message: enough to hide its latency, few beside a large reader."""
_LET_GO_S = 0.2


@dataclass(frozen=True, slots=True)
class Group:
    """This process and how many there are; process 0 logs, evaluates and saves."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls) -> Group:
        """The group that torchrun started, or a group of one."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        if not distributed.is_initialized():
            # Gloo beside NCCL: checkpoints are written from the CPU while training goes on.
            distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        return cls(distributed.get_rank(), size)

    def apart(self) -> distributed.ProcessGroup | None:
        """The same processes as a group of its own, for what goes on beside training; None if alone."""
        return distributed.new_group(backend="gloo") if self.size > 1 else None

    @property
    def leads(self) -> bool:
        """Whether this is process 0."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The items that this process takes."""
        return items[self.rank :: self.size]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            distributed.barrier()

    def leave(self) -> None:
        """End the group, once all processes are here; the last thing that a process does.

        A process that ends with a message of its own still under way is aborted by torch, and torchrun then
        stops the others, one of which may be saving (github.com/pytorch/pytorch/pull/179291). Sharded tensors
        keep the group's threads alive to the very end, and one that is about to let its last message go needs
        a moment that a busy machine may not have given it yet.
        """
        if self.size > 1:
            distributed.barrier()
            distributed.destroy_process_group()
            time.sleep(_LET_GO_S)

    def gather(self, value: T) -> list[T]:
        """The value of each process, by rank."""
        if self.size == 1:
            return [value]
        gathered: list[Any] = [None] * self.size
        distributed.all_gather_object(gathered, value)
        return gathered

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Give each parameter the sum of its gradients in all processes; none where no process has one."""
        if self.size == 1:
            return
        every = list(parameters)
        used = torch.tensor([p.grad is not None for p in every], dtype=torch.int32, device=every[0].device)
        distributed.all_reduce(used, distributed.ReduceOp.MAX)
        trained = [p for p, is_used in zip(every, used.tolist(), strict=True) if is_used]
        for bucket in _buckets(trained):
            grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in bucket]
            flat = torch.cat([g.flatten() for g in grads])
            distributed.all_reduce(flat)
            for p, summed in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                p.grad = summed.view_as(p)


def _buckets(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    """Parameters one after the other, as many as one message should carry."""
    bucket: list[Tensor] = []
    for p in parameters:
        if bucket and sum(x.numel() for x in bucket) + p.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(p)
    if bucket:
        yield bucket
