"""T5's relative position bias on NumPy's arrays."""

from __future__ import annotations

import numpy as np

from fidkit.distances import relative_buckets


def bias_by_distance(table: np.ndarray, reach: int, max_distance: int) -> np.ndarray:
    """[H, 2 reach + 1] float32, of keys at distances -reach to reach, from a table [buckets, H]."""
    distance = np.arange(-reach, reach + 1)
    bucket = relative_buckets(distance, bidirectional=True, buckets=len(table), max_distance=max_distance)
    return np.ascontiguousarray(table[bucket].T)


def bias_of_past(table: np.ndarray, positions: int, max_distance: int) -> np.ndarray:
    """[H, positions] float32, by distance into the past."""
    distance = -np.arange(positions)
    bucket = relative_buckets(distance, bidirectional=False, buckets=len(table), max_distance=max_distance)
    return np.ascontiguousarray(table[bucket].T)
