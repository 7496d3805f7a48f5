"""From a unit to its shard: the same bytes whoever does it, however often.

A shard depends on its unit, the reader and the codec alone. So batches are made by a rule that knows nothing
of workers, threads or devices, and a shard that is finished is left as it is.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fidkit.engine.fingerprint import memory_fingerprint
from fidkit.engine.precision import Precision
from fidkit.engine.runner import Runner, loading_type
from fidkit.errors import MemoryStoreError
from fidkit.memory.codecs import Codec, make_codec
from fidkit.memory.layout import UNITS
from fidkit.memory.shard import ShardWriter, shard_name
from fidkit.precompute.unit import Identity, Unit, read_unit
from fidkit.reader import Reader

Encode = Callable[[Tensor, Tensor], Tensor]
"""Memory [X, D] of passages from ids [R, P] and lengths [R], as `Runner.encode_passages`."""

Advance = Callable[[int], None]
"""Told how many more passages are encoded."""

Finish = Callable[[], Path]
"""Forces a shard to the disk and gives it its name; returns where it is."""

# Batches whose encoding is done and whose writing is not: one more would only cost memory.
_PENDING = 3
# Batches that are laid out at a time: 2 MB of ids.
_AHEAD = 64
_TRIAL_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker needs to know besides its units; goes from process to process.

    Attributes:
        reader: directory or name.
        memory: the memory's directory, the same path for all workers.
        identity: of the memory.
        device: `cpu`, `cuda` or `cuda:1`.
        threads: of the CPU; None leaves the number as it is.
    """

    reader: str
    memory: str
    identity: Identity
    device: str = "cpu"
    threads: int | None = None


class Worker:
    """A reader and a codec made ready to build units."""

    def __init__(self, job: Job, runner: Runner | None = None) -> None:
        """Load what is needed.

        Args:
            job: what to do.
            runner: of the job's reader at the job's precision, where there is one already.

        Raises:
            MemoryStoreError: the reader here is not the one that the work was planned with.
        """
        if job.threads is not None:
            torch.set_num_threads(job.threads)
        self.job = job
        self._runner = runner or _runner(job)
        self._codec: Codec | None = None

    @property
    def codec(self) -> Codec:
        """Read when first needed: product quantisation is trained after workers can encode."""
        if self._codec is None:
            width = self._runner.config.memory_width
            self._codec = make_codec(self.job.identity.codec, width, Path(self.job.memory))
        return self._codec

    def encode(self, ids_RP: Tensor, lengths_R: Tensor) -> Tensor:
        """Memory [X, D] of passages, on the worker's device."""
        vocabulary = self._runner.config.vocabulary_size
        if int(ids_RP.max()) >= vocabulary:
            raise MemoryStoreError(
                f"planned work has token {int(ids_RP.max()):,}, the reader has {vocabulary:,}; delete the "
                f"folder {Path(self.job.memory) / UNITS} and run the build again"
            )
        return self._runner.encode_passages(ids_RP.to(self.job.device), lengths_R.to(self.job.device))

    def shard_of(self, unit: Path) -> Path:
        """Where the shard of a unit is, once it is finished."""
        work = read_unit(unit)
        name = shard_name(self.job.identity.fingerprint, self.codec, work.keys, work.lengths.tolist())
        return Path(self.job.memory) / name

    def build(self, unit: Path, advance: Advance | None = None) -> Path:
        """The finished shard of a unit; see `build_unit`."""
        return self._encoded(unit, advance)()

    def build_each(
        self, units: Iterable[Path], advance: Advance | None = None
    ) -> Iterator[tuple[Path, Path]]:
        """Units with their finished shards, in order; one is forced to the disk while the next is encoded."""
        with ThreadPoolExecutor(1) as finishing:
            before: tuple[Path, Future[Path]] | None = None
            for unit in units:
                finish = self._encoded(unit, advance)
                if before:
                    yield before[0], before[1].result()
                before = unit, finishing.submit(finish)
            if before:
                yield before[0], before[1].result()

    def _encoded(self, unit: Path, advance: Advance | None) -> Finish:
        to = Path(self.job.memory)
        return encode_unit(unit, self.encode, self.codec, self.job.identity.fingerprint, to, advance)


def _runner(job: Job) -> Runner:
    precision: Precision = "float32" if job.identity.precision == "float32" else "bfloat16"
    reader = Reader.from_pretrained(job.reader, loading_type(precision, torch.device(job.device)))
    found = memory_fingerprint(reader)
    if found != job.identity.fingerprint:
        raise MemoryStoreError(
            f"the reader {job.reader} has fingerprint {found}, but the work was planned with "
            f"{job.identity.fingerprint}; give all workers the same reader"
        )
    if job.device != "cpu":
        torch.cuda.set_device(job.device)  # kernels go to the current GPU
    return Runner(reader.to(job.device), precision, own=True)


def build_unit(
    unit: Path,
    encode: Encode,
    codec: Codec,
    fingerprint: str,
    to: Path,
    advance: Advance | None = None,
) -> Path:
    """The finished shard of a unit; see `encode_unit`."""
    return encode_unit(unit, encode, codec, fingerprint, to, advance)()


def encode_unit(
    unit: Path,
    encode: Encode,
    codec: Codec,
    fingerprint: str,
    to: Path,
    advance: Advance | None = None,
) -> Finish:
    """Encode a unit and write its rows; a shard that is there already is not made again.

    Args:
        unit: file of the unit.
        encode: the reader's memory encoder.
        codec: of the shard.
        fingerprint: of the reader.
        to: folder of the shard.
        advance: told about passages as they are encoded.

    Returns:
        What forces the shard to the disk and says where it is; to be called once, by any thread.

    Raises:
        MemoryStoreError: the unit is damaged, or was planned for another reader or codec; or the shard can't
            be written.
    """
    work = read_unit(unit)
    planned = (work.identity.fingerprint, work.identity.codec)
    if planned != (fingerprint, codec.name):
        raise MemoryStoreError(
            f"{unit}: planned for reader {planned[0]} in {planned[1]}, but given {fingerprint} in "
            f"{codec.name}; run the build again with the reader that it was planned with"
        )
    lengths = work.lengths.tolist()
    finished = to / shard_name(fingerprint, codec, work.keys, lengths)
    if finished.exists():
        if advance:
            advance(len(lengths))
        return lambda: finished
    with ExitStack() as stack:
        writer = stack.enter_context(ShardWriter(to, work.keys, lengths, codec, fingerprint))
        _write_rows(work, encode, codec, writer, advance)
        to_close = stack.pop_all()

    def finish() -> Path:
        with to_close:
            return writer.finish()

    return finish


def _write_rows(
    work: Unit, encode: Encode, codec: Codec, writer: ShardWriter, advance: Advance | None
) -> None:
    """Encode batch by batch; a batch is written while the next is encoded."""
    with ThreadPoolExecutor(1) as writing:
        # Checksums and the disk are this thread's.
        pending: deque[Future[None]] = deque()
        for rows, batch in _prepared(work, batches(work.lengths.tolist(), work.batch_tokens)):
            memory_XD = encode(*batch)
            if memory_XD.device.type == "cpu":
                # Here, since products of a second thread would fight with the encoder's for the cores.
                pending.append(writing.submit(writer.put, rows.start, codec.encode(memory_XD)))
            else:
                pending.append(writing.submit(_put, writer, codec, rows.start, memory_XD))
            if len(pending) > _PENDING:
                pending.popleft().result()
            if advance:
                advance(len(rows))
        for future in pending:
            future.result()


def tokens_a_second(worker: Worker, unit: Path) -> float:
    """How fast a worker encodes, from a short trial on the first passages of a unit."""
    work = read_unit(unit)
    end = int((work.lengths.cumsum() <= _TRIAL_TOKENS).sum())
    trial = padded(work, range(max(1, end)))
    tokens = int(trial[1].sum())
    for _ in range(2):  # the first makes everything ready
        began = time.perf_counter()
        worker.encode(*trial)[-1].cpu()  # which waits for a GPU
        seconds = time.perf_counter() - began
    return tokens / max(seconds, 1e-9)


def batches(lengths: Sequence[int], tokens: int) -> list[range]:
    """Rows that are encoded together: neighbours, as many as come to `tokens`, one at least."""
    made: list[range] = []
    first = room = 0
    for row, length in enumerate(lengths):
        if length > room and row > first:
            made.append(range(first, row))
            first = row
        if row == first:
            room = tokens
        room -= length
    return [*made, range(first, len(lengths))] if lengths else []


def _prepared(unit: Unit, made: Sequence[range]) -> Iterator[tuple[range, tuple[Tensor, Tensor]]]:
    """Batches with their rows, some ahead.

    Between two products this thread shares its core with the one that writes, and a batch takes five times as
    long as it does here.
    """
    for begin in range(0, len(made), _AHEAD):
        some = made[begin : begin + _AHEAD]
        yield from zip(some, [padded(unit, rows) for rows in some], strict=True)


def padded(unit: Unit, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Ids [R, P], padded on the right, and lengths [R] of some rows of a unit."""
    lengths_R = unit.lengths[rows].astype("int64")
    position_P = np.arange(lengths_R.max())
    is_real_RP = position_P < lengths_R[:, None]
    ids_RP = np.zeros(is_real_RP.shape, np.int64)
    ids_RP[is_real_RP] = unit.ids[(unit.starts[rows, None] + position_P)[is_real_RP]]
    return torch.from_numpy(ids_RP), torch.from_numpy(lengths_R)


def _put(writer: ShardWriter, codec: Codec, first: int, memory_XD: Tensor) -> None:
    writer.put(first, codec.encode(memory_XD))
