"""What may be done to the layers of a stack while training: computed again, or compiled."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fidkit.nn.blocks import DecoderLayer, EncoderLayer
from fidkit.nn.layers import Vectorwise
from fidkit.reader import Reader

log = logging.getLogger(__name__)
STACKS = {"encoder": EncoderLayer, "decoder": DecoderLayer}


def recompute(reader: Reader, stacks: Iterable[str]) -> None:
    """Layers of these stacks keep their inputs alone, and are computed again in the backward pass.

    Dropout and precision are those of the first time, so nothing changes but time and memory.

    Args:
        reader: changed in place; its parameters keep their names.
        stacks: `encoder` (all layers that encode) and `decoder`.
    """
    kinds = tuple(STACKS[stack] for stack in stacks)
    for module in reader.modules():
        if kinds and isinstance(module, kinds):
            module.forward = _recomputed(module.forward)


def _recomputed(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(x: Tensor, *args: Any) -> Tensor:
        if not torch.is_grad_enabled():
            return forward(x, *args)
        return checkpoint(forward, x, *map(_once, args), use_reentrant=False)

    return run


def _once(arg: Any) -> Any:
    """A probe looks at the first computation only: the second one is not news."""
    if not callable(arg) or isinstance(arg, nn.Module):
        return arg
    seen = False

    def probe(scores: Tensor) -> None:
        nonlocal seen
        if not seen:
            arg(scores)
        seen = True

    return probe


def compile_layers(reader: Reader) -> None:
    """Compile norms and feed-forward layers; where that can't be, say so and leave them as they are."""
    device = reader.embedding.weight.device
    problem = _why_not(device)
    if problem:
        log.warning("nothing is compiled, training takes longer: %s", problem)
        return
    torch._dynamo.config.suppress_errors = True  # what can't be compiled later on runs as it is
    for module in reader.modules():
        if isinstance(module, Vectorwise):
            module.compile(dynamic=True)


def _why_not(device: torch.device) -> str | None:
    """What keeps this machine from compiling a forward and a backward pass; None if nothing does."""
    x = torch.ones(4, device=device, requires_grad=True)
    try:
        torch.compile(lambda x: (x * x).sum())(x).backward()
    except Exception as error:  # whatever a compiler or its absence throws
        return " ".join(str(error).split())[:200] or type(error).__name__
    return None
