"""umT5 (arXiv 2304.09151): T5 v1.1 whose layers have a table of biases by distance each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fidkit.families.record import Family

if TYPE_CHECKING:
    from fidkit.config import ReaderConfig, StackConfig


@dataclass(frozen=True)
class Umt5(Family):
    """Each layer has the parameters that T5 has once a stack."""

    def positions(self, config: ReaderConfig, stack: StackConfig, layers: int) -> int:
        return layers * config.relative_buckets * stack.heads


UMT5 = Umt5(
    name="umt5",
    modules="fidkit.nn.families.umt5",
    feed_forward_inputs=2,
    feed_forward_keeps=(4, 4),  # as T5 v1.1
    relative_bias=False,
    layer_bias=True,
)
