"""A running mean of a reader's weights over the steps of a run: what is evaluated and saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from fidkit.reader import Reader
from fidkit.train.optimisers.second_moments import local

WEIGHTS = "weights/"
"""In front of names of weights as they are, where a checkpoint's reader has their means."""


class Average:
    """The mean of all weights that are trained; the others are as they are.

    It forgets: a step adds `1 - decay` of its weights. Early on it forgets faster, so that the weights of the
    start are gone after some steps: after n of them, the decay is (1 + n) / (10 + n) at most.

    Args:
        reader: its weights are the mean so far.
        decay: what a step keeps of the mean.
    """

    def __init__(self, reader: Reader, decay: float) -> None:
        self.reader, self.decay = reader, decay
        self._means = [local(p.detach()).clone() for p in self._trained()]

    def _trained(self) -> list[Tensor]:
        return [p for p in self.reader.parameters() if p.requires_grad]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step 1, 2, ..."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._means, [local(p) for p in self._trained()], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Meanwhile the reader has the means as its weights."""
        own = self._exchange(self._means)
        try:
            yield
        finally:
            self._exchange(own)

    def weights(self) -> dict[str, Tensor]:
        """The reader's trained weights as they are, for a checkpoint; copies, by name."""
        named = self.reader.named_parameters()
        return {f"{WEIGHTS}{name}": p.detach().clone() for name, p in named if p.requires_grad}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the reader's weights for the means, and give it those of `weights()`."""
        self._means = [local(p.detach()).clone() for p in self._trained()]
        for name, p in self.reader.named_parameters():
            if p.requires_grad:
                local(p).copy_(local(tensors[f"{WEIGHTS}{name}"]))

    @torch.no_grad()
    def _exchange(self, tensors: list[Tensor]) -> list[Tensor]:
        before = [local(p).clone() for p in self._trained()]
        torch._foreach_copy_([local(p) for p in self._trained()], tensors)
        return before
