"""T5's relative position bias."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fidkit.distances import relative_buckets


class PositionTable(nn.Module):
    """A learnt `weight` that stands for positions. It never decays."""

    weight: nn.Parameter


class PositionBias(PositionTable):
    """What scores get by position, [1, H, queries, keys]: `forward(query_positions, key_positions)`.

    Attributes:
        max_distance: from here on it stays the same.
    """

    max_distance: int


class RelativeBias(PositionBias):
    """One learnt bias a bucket and head, shared by all layers of a stack."""

    def __init__(self, heads: int, *, bidirectional: bool, buckets: int, max_distance: int) -> None:
        super().__init__()
        self.bidirectional = bidirectional
        self.max_distance = max_distance
        self.weight = nn.Parameter(torch.empty(buckets, heads))

    def forward(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """Bias [1, H, queries, keys] for explicit integer positions [queries] and [keys]."""
        distance = key_positions[None, :] - query_positions[:, None]
        bucket = relative_buckets(
            distance,
            bidirectional=self.bidirectional,
            buckets=self.weight.shape[0],
            max_distance=self.max_distance,
        )
        return self.weight[bucket].permute(2, 0, 1)[None]


def key_mask_bias(mask: Tensor) -> Tensor:
    """Additive bias [B, 1, 1, S] that hides the keys where `mask` [B, S] is False."""
    return torch.zeros(mask.shape, dtype=torch.float32, device=mask.device).masked_fill(~mask, HIDDEN)[
        :, None, None
    ]


def causal_bias(query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """Additive bias [1, 1, queries, keys] that hides keys after the query."""
    future = key_positions[None, :] > query_positions[:, None]
    return torch.zeros(future.shape, device=future.device).masked_fill(future, HIDDEN)[None, None]


# Large enough that a hidden key weighs exactly 0 in float32, small enough to add without overflow;
# not -inf, so that a row with nothing to see stays finite.
HIDDEN = -1e9
