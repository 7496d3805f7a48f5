"""One fetch: rows read by several threads into one buffer, checked, and decoded."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

import numpy as np

from fidkit import arrays
from fidkit.arrays import Array
from fidkit.memory.codecs import Codec
from fidkit.memory.index import DamagedShard
from fidkit.memory.manifest import Place
from fidkit.memory.shard import read_into
from fidkit.memory.storage import Storage

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Fetched:
    """Memory as read.

    Attributes:
        memory_XD: rows of all keys that were found, one after the other, in the order of the keys; or
            their records [X, C], where no dtype was asked for.
        lost: which of the keys (as found) could not be read after all. Their rows are there, with zeros,
            so that they can be encoded and put into place.
    """

    memory_XD: Array
    lost: list[int]


class Fetch:
    """Work for a pool: each thread takes the next row until none is left, and the last one decodes.

    No thread waits for another, so any number of fetches may share a pool of any size.

    Attributes:
        again: looks up a row once more; it may have moved.
        complain: hears of a shard that can't be read, and why.
    """

    def __init__(
        self,
        storage: Storage,
        codec: Codec,
        places: Sequence[Place | None],
        dtype: torch.dtype | Literal["float32"] | None,
        *,
        pin: bool,
    ) -> None:
        self._storage, self._codec, self._dtype = storage, codec, dtype
        self._rows = [(at, place) for at, place in enumerate(places) if place]
        self._ends = list(accumulate(place.size for _, place in self._rows))
        tokens = sum(place.tokens for _, place in self._rows)
        self._records_XC, packed = _room(tokens, codec, pin=pin, tensors=dtype != "float32")
        self._buffer = packed.reshape(-1).data if tokens else memoryview(bytearray())
        self._lock = threading.Lock()
        self._next, self._running = 0, 0
        self._lost: list[int] = []
        self._future: Future[Fetched] = Future()
        self.again: Callable[[int], Place | None] = lambda at: None
        self.complain: Callable[[str, str], None] = lambda shard, reason: None

    def start(self, submit: Callable[[Callable[[], None]], None], threads: int) -> Future[Fetched]:
        """Begin, and say where the result will be.

        Args:
            submit: runs something in another thread.
            threads: at most so many at once.
        """
        self._future.set_running_or_notify_cancel()  # who cancels would leave threads without a result
        self._running = max(1, min(threads, len(self._rows)))
        for _ in range(self._running):
            submit(self._work)
        return self._future

    def _work(self) -> None:
        try:
            while (number := self._take()) is not None:
                self._read_or_lose(number)
        except BaseException as error:
            self._fail(error)
        with self._lock:
            self._running -= 1
            last = not self._running
        if last and not self._future.done():
            try:
                self._future.set_result(self._result())
            except BaseException as error:
                self._fail(error)

    def _take(self) -> int | None:
        with self._lock:
            if self._next == len(self._rows):
                return None
            self._next += 1
            return self._next - 1

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._next = len(self._rows)
            if not self._future.done():
                self._future.set_exception(error)

    def _read_or_lose(self, number: int) -> None:
        at, place = self._rows[number]
        into = self._buffer[self._ends[number] - place.size : self._ends[number]]
        reason = self._read(place, into)
        if reason:
            # Compaction moves rows and deletes shards, and a mended shard has the name of the damaged one.
            self._storage.forget()
            now = self.again(at)
            reason = self._read(now, into) if now and now.size == place.size else reason
        if reason:
            into[:] = bytes(len(into))  # whatever the buffer held need not be what a codec can decode
            with self._lock:
                self._lost.append(number)
            self.complain(place.shard, reason)

    def _read(self, place: Place, into: memoryview) -> str:
        """Why the row could not be read; empty if it could."""
        try:
            read_into(self._storage, place.shard, place.offset, into)
        except DamagedShard as damage:
            return str(damage)
        except FileNotFoundError:
            return "there is no such file"
        except OSError as error:
            return str(error)
        return "" if zlib.crc32(into) == place.crc else "a checksum is wrong"

    def _result(self) -> Fetched:
        memory: Array = self._records_XC
        if self._dtype == "float32":
            memory = self._codec.decode(memory)
        elif self._dtype is not None:
            memory = self._codec.decode(memory, self._dtype)
        if self._lost:
            rows_XC = arrays.split(memory, [place.tokens for _, place in self._rows])
            for number in self._lost:
                rows_XC[number][:] = 0
        return Fetched(memory, sorted(self._rows[number][0] for number in self._lost))


def _room(tokens: int, codec: Codec, *, pin: bool, tensors: bool) -> tuple[Array, np.ndarray]:
    """Memory for the records of so many tokens, and the same as bytes."""
    if not tensors:
        kind = np.uint16 if codec.kind == "bfloat16" else np.dtype(codec.kind)
        records_XC = np.empty((tokens, codec.columns), kind)
        return records_XC, records_XC.view(np.uint8)
    import torch

    pinned = pin and torch.cuda.is_available()
    made_XC = torch.empty(tokens, codec.columns, dtype=getattr(torch, codec.kind), pin_memory=pinned)
    return made_XC, made_XC.view(torch.uint8).numpy()
