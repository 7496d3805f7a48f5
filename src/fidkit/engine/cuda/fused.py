"""What stands between matrix products, each compiled into one kernel where there is a GPU.

On a GPU these functions move more bytes than they compute, and one by one they would read and write every
vector many times. They know nothing of layers: products stay with the libraries that are best at them.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fidkit.nn.layers import FeedForward, RMSNorm
from fidkit.nn.positions import HIDDEN

log = logging.getLogger(__name__)


def norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """RMS norm over the last dimension, as `RMSNorm`; same type as `x`."""
    return F.rms_norm(x.float(), (x.shape[-1],), weight.float(), epsilon).to(x.dtype)


def add_norm(x: Tensor, change: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """`x + change`, and its RMS norm."""
    x = x + change
    return x, norm(x, weight, epsilon)


def gated_gelu(gate: Tensor, inner: Tensor) -> Tensor:
    """gelu(gate) * inner, in the tanh form."""
    return F.gelu(gate, approximate="tanh") * inner


def weigh(scores: Tensor, bias: Tensor) -> Tensor:
    """Softmax of `scores + bias` over the last of three dimensions, in float32; same type as `scores`."""
    return (scores.float() + bias).softmax(-1).to(scores.dtype)


def causal_row(bias_HT: Tensor, position: Tensor) -> Tensor:
    """Bias [1, H, T] of the keys at 0 .. T - 1 for the query at `position` [1]; later keys are hidden.

    Args:
        bias_HT: float32, by distance into the past.
        position: of the query; a tensor, so that one step is like the next.
    """
    distance_T = position - torch.arange(bias_HT.shape[1], device=bias_HT.device)
    return bias_HT[:, distance_T.clamp(min=0)].masked_fill(distance_T < 0, HIDDEN)[None]


@dataclass(frozen=True)
class Functions:
    """The functions above, compiled or as they are."""

    norm: Callable[[Tensor, Tensor, float], Tensor] = norm
    add_norm: Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]] = add_norm
    gated_gelu: Callable[[Tensor, Tensor], Tensor] = gated_gelu
    weigh: Callable[[Tensor, Tensor], Tensor] = weigh
    causal_row: Callable[[Tensor, Tensor], Tensor] = causal_row

    def first(self, x: Tensor, norm: RMSNorm) -> Tensor:
        """What the first layer reads of the states."""
        return self.norm(x, norm.weight, norm.epsilon)

    def residual(self, x: Tensor, change: Tensor, norm: RMSNorm) -> tuple[Tensor, Tensor]:
        """The states after a change, and what the next layer reads of them."""
        return self.add_norm(x, change, norm.weight, norm.epsilon)

    def feed_forward(self, block: FeedForward, x: Tensor) -> Tensor:
        """What the block adds to the states, with a gate or without."""
        inner = block.inner(x)
        if block.gate is not None:
            return block.out(self.gated_gelu(block.gate(x), inner))
        return block.out(F.relu(inner))


# PyTorch gives up on a function after so many versions of it, 8 by default; every width, type and mode needs
# one.
_VERSIONS = 64


class Compiled:
    """A function that is compiled at its first call; as it is, with one warning, where that fails.

    Args:
        function: pure, so that it can be called again when compiling has failed.
        options: of `torch.compile`.
    """

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        config = torch._dynamo.config
        config.recompile_limit = max(config.recompile_limit, _VERSIONS)
        self.function = function
        self.compiled: Callable[..., Any] | None = torch.compile(function, **options)

    def __call__(self, *args: Any, instead: Callable[[], Any] | None = None) -> Any:
        """Call it, or `instead` where it can't be compiled."""
        if self.compiled is not None:
            try:
                return self.compiled(*args)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                log.warning("%s isn't compiled, answers take longer: %s", self.function.__name__, reason)
                self.compiled = None
        return self.function(*args) if instead is None else instead()


PLAIN = Functions()


@functools.cache
def compiled() -> Functions:
    """All of them compiled, for any number of vectors at once."""
    return Functions(*(Compiled(f, dynamic=True) for f in (norm, add_norm, gated_gelu, weigh, causal_row)))
