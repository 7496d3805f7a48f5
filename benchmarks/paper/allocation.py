"""Memory against batch, and the largest batch that fits, by trying (table 1)."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from fidkit.bench.measure import warm_up
from fidkit.bench.questions import Questions, synthetic
from fidkit.cost import Workload, batch_bytes, largest, largest_batch
from fidkit.engine.cpu.products import packs
from fidkit.engine.schedule.room import available_bytes
from paper.inference import Entry
from paper.record import Book, Deadline, Row, say
from paper.session import Session

# Questions of a batch are looked for up to here, this number included.
MOST = 4096
STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class Growth:
    """Memory that a batch takes, measured while it runs, batch after batch.

    Attributes:
        name: of the unit.
        system: see `paper.sizes`.
        workload: one question.
        batches: questions at a time.
    """

    name: str
    system: str
    workload: Workload
    batches: tuple[int, ...]

    def missing(self, session: Session, book: Book) -> int:
        """Batches."""
        identities = (session.identity(self.name, self.system, batch) for batch in self.batches)
        return sum(book.missing([one], 1) for one in identities)

    def expected_s(self, session: Session) -> float:
        """Little: each batch runs once."""
        return 0.0 if session.size_name == "tiny" else 20.0

    def run(self, session: Session, book: Book, deadline: Deadline) -> None:
        """A row for each batch."""
        for batch in self.batches:
            if deadline.over or not book.missing([session.identity(self.name, self.system, batch)], 1):
                continue
            say(f"{session.experiment} {self.name}: {self.system}, batch {batch}")
            grown = allocated(session, self.system, self.workload.replace(questions=batch))
            if grown is None:
                say(f"{self.system}: batch {batch} doesn't fit into memory: left out")
                break
            book.add(_allocation_row(self, session, batch, grown))
        session.free(keep_weights=False)


@dataclass(frozen=True)
class Limit:
    """The largest batch that a CUDA device really takes, and the memory of every batch that was tried.

    Attributes:
        name: of the unit.
        system: see `paper.sizes`.
        workload: one question.
        memory_gb: of the device that may be used; None for all.
    """

    name: str
    system: str
    workload: Workload
    memory_gb: float | None = None

    def missing(self, session: Session, book: Book) -> int:
        """1 until it is done."""
        return book.missing([session.identity(self.name, self.system, 0)], 1)

    def expected_s(self, session: Session) -> float:
        """Some twenty batches, each of some seconds at most."""
        return 60.0

    def run(self, session: Session, book: Book, deadline: Deadline) -> None:
        """One row: the largest batch, and what was tried; none if time is up before."""
        say(f"{session.experiment} {self.name}: {self.system}")
        tried: dict[int, int | None] = {}

        def fits(batch: int) -> bool:
            if deadline.over:
                raise TimeoutError
            tried[batch] = allocated(session, self.system, self.workload.replace(questions=batch))
            return tried[batch] is not None

        total = torch.cuda.get_device_properties(session.device).total_memory
        budget = min(total, int((self.memory_gb or total / 1e9) * 1e9))
        torch.cuda.set_per_process_memory_fraction(budget / total, session.device)
        try:
            most = largest(fits, MOST + 1)
        except TimeoutError:
            say("no time left for this one")
            return
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, session.device)
            session.free(keep_weights=False)
        config = session.size.system(self.system)
        book.add(
            session.row_of(
                self.name,
                self.system,
                0,
                config=config.model_dump(mode="json"),
                memory_gb=budget / 1e9,
                measured_batch=most,
                predicted_batch=largest_batch(config, self.workload, budget),
                tried={str(batch): size for batch, size in sorted(tried.items())},
            )
        )


def allocated(session: Session, system: str, workload: Workload) -> int | None:
    """Bytes that reading and answering a batch take at most, beyond the weights; None if they don't fit."""
    config = session.size.system(system)
    if session.device.type == "cpu" and batch_bytes(config, workload).total > available_bytes(session.device):
        return None
    try:
        return _peak(session, system, workload)
    except torch.OutOfMemoryError:
        return None
    finally:
        session.free(keep_weights=True)


def _peak(session: Session, system: str, workload: Workload) -> int:
    subject = Entry(system, system).subject(session)
    one = synthetic(workload.replace(questions=1), session.size.vocabulary)
    # The same question again and again: drawing hundreds takes longer than answering them.
    subject.prepare(Questions([*one.questions] * workload.questions, [*one.passages] * workload.questions))

    def run() -> None:
        warm_up(subject, workload.output_tokens, session.clock)

    return _peak_cuda(session.device, run) if session.device.type == "cuda" else _peak_cpu(run)


def _peak_cuda(device: torch.device, run: Callable[[], object]) -> int:
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    return torch.cuda.max_memory_allocated(device) - before


def _peak_cpu(run: Callable[[], object], every_s: float = 0.002) -> int:
    """Growth of the resident memory, looked at again and again: an estimate, a little too low."""
    _trim()
    before, peak, over = resident_bytes(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.is_set():
            peak = max(peak, resident_bytes())
            time.sleep(every_s)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        run()
    finally:
        over.set()
        watcher.join()
    return max(0, max(peak, resident_bytes()) - before)


def _trim() -> None:
    """Let the C library give back what is free: kept, it would hide the growth of the next run."""
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def resident_bytes() -> int:
    """Of this process, without the code of libraries; 0 where the system doesn't say (not Linux)."""
    try:
        _, resident, shared, *_ = map(int, STATM.read_text(encoding="utf-8").split())
    except OSError:
        return 0
    return (resident - shared) * mmap.PAGESIZE


def _allocation_row(unit: Growth, session: Session, batch: int, grown: int) -> Row:
    config = session.size.system(unit.system)
    workload, kept_twice = unit.workload.replace(questions=batch), packs(session.device, torch.bfloat16)
    predicted = batch_bytes(config, workload, packs=kept_twice)
    return session.row_of(
        unit.name,
        unit.system,
        batch,
        config=config.model_dump(mode="json"),
        allocated_bytes=grown,
        predicted_bytes=predicted.total - predicted.weights,
    )
