"""The binary codes that are nearest to a question's, by comparing all: exact, and without a build.

NumPy takes about twice as long as faiss (`IndexBinaryFlat`) on one thread, 7 ms a million codes of 384 bits,
which is no reason for another package.

Letters: Q questions, W words of a code, n codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# So many codes, and what is made of them, stay in a core's cache.
_BLOCK = 32_768
_FAR = int(np.iinfo(np.uint16).max)


@dataclass(frozen=True)
class Codes:
    """Codes of a shard.

    Attributes:
        codes_Wn: word by word, uint64.
        rows: [n] numbers of their passages, ascending.
        mask: bool [n], which of them count; None for all.
    """

    codes_Wn: NDArray[np.uint64]
    rows: NDArray[np.int64]
    mask: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.rows) if self.mask is None else int(self.mask.sum())

    def places(self) -> NDArray[np.int64]:
        """Of those that count, ascending."""
        return np.arange(len(self.rows)) if self.mask is None else np.flatnonzero(self.mask)


def nearest_codes(
    shards: Sequence[Codes], asked_WQ: NDArray[np.uint64], most: int
) -> list[list[NDArray[np.int64]]]:
    """By question and shard, places of the `most` codes in which fewest bits differ; equal ones by row."""
    found = [_Nearest(most) for _ in range(asked_WQ.shape[1])]
    for number, shard in enumerate(shards):
        for start in range(0, len(shard.rows), _BLOCK):
            _compare(shard, number, start, asked_WQ, found)
    return [one.by_shard(len(shards)) for one in found]


def _compare(
    shard: Codes, number: int, start: int, asked_WQ: NDArray[np.uint64], found: Sequence[_Nearest]
) -> None:
    """Compare a block of a shard with all questions."""
    block_Wb = shard.codes_Wn[:, start : start + _BLOCK]
    rows = shard.rows[start : start + _BLOCK]
    left_out = None if shard.mask is None else ~shard.mask[start : start + _BLOCK]
    if left_out is not None and left_out.all():
        return
    count = len(rows)
    differ, ones, bits = np.empty(count, np.uint64), np.empty(count, np.uint8), np.empty(count, np.uint16)
    for code_W, nearest in zip(asked_WQ.T, found, strict=True):
        bits[:] = 0
        for word_b, word in zip(block_Wb, code_W, strict=True):
            np.bitwise_xor(word_b, word, out=differ)
            np.bitwise_count(differ, out=ones)
            np.add(bits, ones, out=bits)
        if left_out is not None:
            bits[left_out] = _FAR
        nearest.add(bits, rows, number, start)


class _Nearest:
    """The nearest to a question so far."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[NDArray[np.int64]] = []
        self._count = 0
        # Bits that may differ: codes with more are too far.
        self._limit = _FAR - 1

    def add(self, bits: NDArray[np.uint16], rows: NDArray[np.int64], shard: int, start: int) -> None:
        """Offer the codes of a block, the first of which is at a place of a shard."""
        near = np.flatnonzero(bits <= self._limit)
        if len(near) > self._most:
            of_near = bits[near]
            near = near[of_near <= np.partition(of_near, self._most - 1)[self._most - 1]]
        if len(near):
            self._kept.append(np.stack([bits[near], rows[near], np.full(len(near), shard), near + start]))
            self._count += len(near)
        if self._count > 2 * self._most:
            self._prune()

    def by_shard(self, shards: int) -> list[NDArray[np.int64]]:
        """Places of the nearest in each shard."""
        self._prune()
        [found] = self._kept or [np.zeros((4, 0), np.int64)]
        return [np.sort(found[3, found[2] == number]) for number in range(shards)]

    def _prune(self) -> None:
        if not self._kept:
            return
        found = np.concatenate(self._kept, 1)
        found = found[:, np.lexsort((found[1], found[0]))[: self._most]]
        self._kept, self._count = [found], found.shape[1]
        if self._count == self._most:
            self._limit = int(found[0, -1])
