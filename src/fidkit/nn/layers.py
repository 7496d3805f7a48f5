"""T5's norm and feed-forward layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fidkit.config import StackConfig
from fidkit.nn.dropout import Dropout


class Vectorwise(nn.Module):
    """Looks at each vector by itself, so that one compiled form serves any number of them."""


class RMSNorm(Vectorwise):
    """Scale by the root mean square, in float32; no centring, no bias."""

    def __init__(self, width: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape and dtype as `x` [..., width]."""
        normed = F.rms_norm(x.float(), (x.shape[-1],), self.weight.float(), self.epsilon)
        return normed.to(x.dtype)


class FeedForward(Vectorwise):
    """T5 v1.0: `out(relu(inner(x)))`.

    Attributes:
        gate: None here.
    """

    gate: nn.Linear | None

    def __init__(self, stack: StackConfig, dropout: float) -> None:
        super().__init__()
        self.gate = None
        self.inner = nn.Linear(stack.width, stack.feed_forward, bias=False)
        self.out = nn.Linear(stack.feed_forward, stack.width, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.dropout(F.relu(self.inner(x))))


class GatedFeedForward(FeedForward):
    """T5 v1.1: `out(gelu(gate(x)) * inner(x))`, with the tanh form of GELU."""

    gate: nn.Linear

    def __init__(self, stack: StackConfig, dropout: float) -> None:
        nn.Module.__init__(self)
        self.gate = nn.Linear(stack.width, stack.feed_forward, bias=False)
        self.inner = nn.Linear(stack.width, stack.feed_forward, bias=False)
        self.out = nn.Linear(stack.feed_forward, stack.width, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.dropout(F.gelu(self.gate(x), approximate="tanh") * self.inner(x)))
