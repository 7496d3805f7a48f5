"""T5's relative position bias on NumPy's arrays."""

from __future__ import annotations

import math

import numpy as np


def buckets_of(distance: np.ndarray, *, bidirectional: bool, buckets: int, max_distance: int) -> np.ndarray:
    """Bucket of each signed distance, as `fidkit.nn.positions.relative_buckets` has it."""
    offset = np.zeros_like(distance)
    if bidirectional:
        buckets //= 2
        offset = (distance > 0) * buckets
        distance = np.abs(distance)
    else:
        distance = np.maximum(-distance, 0)
    exact = buckets // 2
    scale = (buckets - exact) / math.log(max_distance / exact)
    near = np.maximum(distance, 1).astype(np.float32) / np.float32(exact)
    far = exact + (np.log(near) * np.float32(scale)).astype(np.int64)
    return offset + np.where(distance < exact, distance, np.minimum(far, buckets - 1))


def bias_by_distance(table: np.ndarray, reach: int, max_distance: int) -> np.ndarray:
    """[H, 2 reach + 1] float32, of keys at distances -reach to reach, from a table [buckets, H]."""
    distance = np.arange(-reach, reach + 1)
    bucket = buckets_of(distance, bidirectional=True, buckets=len(table), max_distance=max_distance)
    return np.ascontiguousarray(table[bucket].T)


def bias_of_past(table: np.ndarray, positions: int, max_distance: int) -> np.ndarray:
    """[H, positions] float32, by distance into the past."""
    distance = -np.arange(positions)
    bucket = buckets_of(distance, bidirectional=False, buckets=len(table), max_distance=max_distance)
    return np.ascontiguousarray(table[bucket].T)
