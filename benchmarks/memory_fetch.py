"""Time the fetching of memory rows, cold and warm, by several readers at once; beside plain mmap.

    python benchmarks/memory_fetch.py CORPUS [--rows 40] [--fetches 200] [--readers 1 4 16]

Every reader fetches random rows again and again, from a store that all of them share. Cold: the system was
told to forget the files' pages before each turn; a virtual disk may still be cached by its host. `mmap`
copies the same rows out of mapped files, one after the other, and neither checks nor decodes them. A row of
results for each way goes to benchmarks/results/memory-fetch.jsonl.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import rows
import torch

from fidkit import Corpus
from fidkit.memory import Located, MemoryStore
from fidkit.memory.layout import SHARD, SUFFIX, memory_directory
from fidkit.passages.token_cache import passage_key

Fetch = Callable[[Sequence[bytes]], object]
PERCENTILES = {"median": 50, "p95": 95}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the fetching of memory rows.")
    parser.add_argument("corpus", type=Path, help="with a memory")
    parser.add_argument("--rows", type=int, default=40, help="of one fetch")
    parser.add_argument("--fetches", type=int, default=200, help="of each way, all readers together")
    parser.add_argument("--readers", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "memory-fetch.jsonl", help="rows go here")
    options = parser.parse_args()
    files = sorted(memory_directory(options.corpus).glob(f"{SHARD}*{SUFFIX}"))
    keys = _keys(options.corpus)
    with MemoryStore.open(options.corpus) as store:
        ways: dict[str, Fetch] = {
            "fidkit": partial(_fetch, store),
            "fidkit, all but decoding": partial(_fetch, store, dtype=None),
            "mmap": Mapped(store, files),
        }
        for cold in (False, True):
            for readers in options.readers:
                found = measure(ways, keys, files, options, readers, cold=cold)
                for way, (latencies, seconds, moved) in found.items():
                    quantiles = statistics.quantiles(latencies, n=100)
                    row = rows.row(
                        "memory-fetch", way=way, cold=cold, readers=readers, rows=options.rows,
                        fetches=len(latencies), codec=store.info.codec, width=store.info.width,
                        stored_bytes=store.info.bytes, shards=store.info.shards, megabytes=moved / 1e6,
                        ms={name: round(quantiles[at - 1], 3) for name, at in PERCENTILES.items()},
                        megabytes_per_s=round(moved * len(latencies) / seconds / 1e6, 1),
                    )  # fmt: skip
                    rows.append(options.to, row)


def measure(
    ways: dict[str, Fetch],
    keys: list[bytes],
    files: list[Path],
    options: argparse.Namespace,
    readers: int,
    *,
    cold: bool,
) -> dict[str, tuple[list[float], float, float]]:
    """Milliseconds of each fetch, seconds in all and mean bytes of a fetch, by way; ways take turns."""
    chosen = random.Random(readers)
    rounds = max(1, options.fetches // (4 * readers))
    found: dict[str, tuple[list[float], float, float]] = {way: ([], 0.0, 0.0) for way in ways}
    with ThreadPoolExecutor(readers) as pool:
        for _ in range(rounds):
            batches = [[chosen.choices(keys, k=options.rows) for _ in range(4)] for _ in range(readers)]
            for way, fetch in ways.items():
                if cold:
                    mapped = [other for other in ways.values() if isinstance(other, Mapped)]
                    for each in mapped:
                        each.close()
                    forget(files)
                    for each in mapped:
                        each.open()
                else:
                    list(pool.map(partial(_timed, fetch), batches))  # brings these rows into memory
                began = time.perf_counter()
                done = list(pool.map(partial(_timed, fetch), batches))
                seconds = time.perf_counter() - began
                latencies, before, _ = found[way]
                sizes = [size for of_reader in done for _, size in of_reader]
                latencies += [ms for of_reader in done for ms, _ in of_reader]
                found[way] = latencies, before + seconds, statistics.mean(sizes)
    return found


def _timed(fetch: Fetch, batches: Sequence[Sequence[bytes]]) -> list[tuple[float, int]]:
    times = []
    for keys in batches:
        began = time.perf_counter()
        size = fetch(keys)
        times.append((1000 * (time.perf_counter() - began), int(size)))  # type: ignore[call-overload]
    return times


def _fetch(store: MemoryStore, keys: Sequence[bytes], dtype: torch.dtype | None = torch.bfloat16) -> int:
    located = store.find(keys)
    assert not store.fetch(located, dtype).result().lost
    return located.bytes


class Mapped:
    """Rows copied out of mapped files."""

    def __init__(self, store: MemoryStore, files: Sequence[Path]) -> None:
        self.store, self.files = store, files
        self.maps: dict[str, mmap.mmap] = {}
        self.open()

    def open(self) -> None:
        for path in self.files:
            with path.open("rb") as file:
                self.maps[path.name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                self.maps[path.name].madvise(mmap.MADV_RANDOM)

    def close(self) -> None:
        """Pages that are mapped are not forgotten."""
        for mapped in self.maps.values():
            mapped.close()

    def __call__(self, keys: Sequence[bytes]) -> int:
        located: Located = self.store.find(keys)
        buffer, end = bytearray(located.bytes), 0
        for place in located.places:
            assert place is not None
            buffer[end : end + place.size] = self.maps[place.shard][place.offset : place.offset + place.size]
            end += place.size
        return end


def forget(files: Sequence[Path]) -> None:
    """Ask the system to forget the pages of files."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _keys(directory: Path) -> list[bytes]:
    with Corpus.open(directory) as corpus:
        return [passage_key(passage) for passage in corpus]


if __name__ == "__main__":
    main()
