"""The codec of a memory that is to be built: known, or trained on a sample of what will be stored.

Product quantisation has codebooks, which fit the memory of one reader on one corpus. They are trained once,
on passages drawn evenly from the plan, and kept with the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fidkit.arrays import Array
from fidkit.memory.codecs import Codec, make_codec
from fidkit.memory.layout import CODEC
from fidkit.memory.pq import MOST_CODES, train_pq
from fidkit.precompute.unit import read_unit
from fidkit.precompute.work import Worker, batches, padded
from fidkit.records import PQ_DIMENSIONS

DEFAULT_PQ_CODES = 4096
# faiss asks for 39 points a code at least.
_TOKENS_A_CODE = 64
# A corpus too small for that has fewer codes, each from a few tokens.
_LEAST_TOKENS_A_CODE = 4


class Untrained:
    """Product quantisation before it has codebooks: what it will take is known."""

    name, kind, fingerprint = "pq", "uint16", ""

    def __init__(self, width: int) -> None:
        self.width, self.columns = width, -(-width // PQ_DIMENSIONS)

    def encode(self, memory_XD: Tensor) -> Tensor:
        raise NotImplementedError("train it first")

    def decode(self, records_XC: Array, dtype: torch.dtype | None = None) -> Array:
        raise NotImplementedError("train it first")


def codec_to_be(name: str, width: int, directory: Path, *, trained: bool) -> Codec:
    """The codec of a memory that is to be built.

    Args:
        name: as the command line calls it.
        width: D.
        directory: of the memory.
        trained: whether codebooks that are there belong to this memory.

    Raises:
        UsageError: no such codec.
        MemoryStoreError: codebooks are damaged.
    """
    if name == "pq" and not (trained and (directory / CODEC).exists()):
        return Untrained(width)
    return make_codec(name, width, directory)


def train_codec(worker: Worker, units: Sequence[Path], directory: Path, codes: int) -> str:
    """Train codebooks on a sample of the units and write them; their fingerprint.

    Args:
        worker: encodes the sample.
        units: what will be stored.
        directory: of the memory.
        codes: of each subspace; fewer where the units have too few tokens.

    Raises:
        MemoryStoreError: a unit is damaged, or the disk is full.
    """
    share = -(-_TOKENS_A_CODE * min(codes, MOST_CODES) // len(units))
    sample = torch.cat([_sample(worker, unit, share) for unit in units])
    fitting = max(1, min(codes, len(sample) // _LEAST_TOKENS_A_CODE))
    codec = train_pq(sample, codes=fitting, seed=0)
    codec.save(directory)
    return codec.fingerprint


def _sample(worker: Worker, path: Path, tokens: int) -> Tensor:
    """Memory [X, D] of passages that stand evenly in a unit: about as many tokens as asked for, or all."""
    unit = read_unit(path)
    every = max(1, int(unit.lengths.sum()) // tokens)
    chosen = range(0, len(unit.keys), every)
    lengths = [int(unit.lengths[row]) for row in chosen]
    parts = []
    for rows in batches(lengths, unit.batch_tokens):
        memory_XD = worker.encode(*padded(unit, chosen[rows.start : rows.stop]))
        parts.append(memory_XD.float().cpu())
    return torch.cat(parts)
