"""T5's buckets of distances between positions."""

from __future__ import annotations

import math

from fidkit import arrays
from fidkit.arrays import Array


def relative_buckets(distance: Array, *, bidirectional: bool, buckets: int, max_distance: int) -> Array:
    """Bucket of each signed distance `key position - query position`.

    Near distances have a bucket each, far ones share buckets that widen logarithmically up to
    `max_distance`. Unidirectional attention spends all buckets on the past.

    Args:
        distance: integers of any shape.
        bidirectional: half of the buckets are for keys after the query.
        buckets: rows of the bias table.
        max_distance: everything from here on shares the last bucket.

    Returns:
        Integers in [0, buckets), same shape.
    """
    offset = arrays.full(distance.shape, 0, distance, "int64")
    if bidirectional:
        buckets //= 2
        offset = arrays.typed(distance > 0, "int64") * buckets
        distance = abs(distance)
    else:
        distance = (-distance).clip(min=0)
    exact = buckets // 2
    scale = (buckets - exact) / math.log(max_distance / exact)
    widening = arrays.log(arrays.typed(distance.clip(min=1), "float32") / exact) * scale
    far = exact + arrays.typed(widening, "int64")
    return offset + arrays.where(distance < exact, distance, far.clip(max=buckets - 1))
