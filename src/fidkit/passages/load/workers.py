"""Files read in processes of their own, so that what crashes, hangs or takes all memory harms nothing else.

A worker (`fidkit.passages.load.worker`) reads one file at a time, within limits on time and memory, and is
replaced when it ends. Whatever it sends is taken for what a stranger sends: JSON and compressed bytes, never
pickles, checked before they are used and no larger than a limit. (A worker that a file has taken over may
still do whatever this user may.)

It dies with this process: the system kills it on Linux; elsewhere it sees the end of its pipe, or uses up its
processor time.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fidkit.errors import CorpusError
from fidkit.passages.load.cutting import Cutting
from fidkit.passages.load.deadline import Deadline
from fidkit.passages.load.packed import Packed, text_of
from fidkit.passages.load.record import NEXT_BUILD, Row
from fidkit.passages.load.rows import source_of
from fidkit.passages.load.wire import BEGUN, DOCUMENT, DONE, FAILED, FRAME, NOT_OPENED, READY

_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from fidkit.passages.load.worker import serve; serve(*map(int, sys.argv[2:]))"
)
# There is a worker a processor, and what threads of libraries set aside counts as taken.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_START_SECONDS = 60
_PIECE = 1 << 20
_ATTEMPTS = 3
_MOST_PASSED = 10
"""Members of a file that end their process, one after the other, before the rest is given up."""
_AHEAD = 2
"""Files a worker that are read, or being read, before they are asked for."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What reading a file may take.

    Attributes:
        seconds, seconds_per_mb: for a document, and more by the size of its file. Processor time, where the
            system says how much a worker took, of which it has to make use.
        memory_bytes: address space of a worker.
        result_bytes: of all documents of a file, compressed.
        characters: of all documents of a file.
        documents: in a file.
        whole: a file may take so many times that by the clock, all its documents and attempts together.
    """

    seconds: float = 60.0
    seconds_per_mb: float = 1.0
    memory_bytes: int = 2 << 30
    result_bytes: int = 128 << 20
    characters: int = 256 << 20
    documents: int = 100_000
    whole: int = 10

    def seconds_for(self, size: int) -> float:
        """What reading a document out of a file of so many bytes may take."""
        return self.seconds + self.seconds_per_mb * size / 1e6


@dataclass(frozen=True, slots=True)
class Job:
    """A file to be read.

    Attributes:
        path, name: where it is, and its name in the corpus.
        loader: by what (`Loader.read`).
        size: its bytes.
        cutting: of its documents.
    """

    path: Path
    name: str
    loader: str
    size: int
    cutting: Cutting = Cutting()  # noqa: RUF009 - it can't be changed


@dataclass(frozen=True, slots=True)
class Read:
    """What came of a file.

    Attributes:
        documents: with their passages.
        reason: why there are none; empty where the file was read.
        sha256: of the file as it was read; empty where another attempt may do better although it is the same,
            be it with a document that is left out.
        not_opened: the file itself can't be opened, for this reason, with the system's `number`.
    """

    documents: tuple[tuple[Packed, tuple[Row, ...]], ...] = ()
    reason: str = ""
    sha256: str = ""
    not_opened: str = ""
    number: int = 0


class Workers:
    """A worker a processor, started when they are needed; close them at the end."""

    def __init__(self, limits: Limits | None = None, count: int | None = None) -> None:
        self._limits = limits or Limits()
        self._count = count or os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="fidkit-load")
        self._mine = threading.local()
        self._running: set[_Worker] = set()
        self._lock = threading.Lock()
        self._closed = False

    def read(self, jobs: Iterable[Job]) -> Iterator[Read]:
        """What is in each file, in their order; some are read ahead.

        Raises:
            CorpusError: no worker can be started at all.
        """
        ahead: deque[Future[Read]] = deque()
        for job in jobs:
            ahead.append(self._threads.submit(self._read, job))
            if len(ahead) > _AHEAD * self._count:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def close(self) -> None:
        """End all workers, whatever they are at."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for worker in running:
            worker.end()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _read(self, job: Job) -> Read:
        """In a thread of the pool, which has a worker of its own."""
        last = time.monotonic() + self._limits.whole * self._limits.seconds_for(job.size)
        passed: dict[str, str] = {}
        attempts, was_killed, may_do_better = 0, False, False
        while attempts < _ATTEMPTS:
            worker = self._worker()
            try:
                found = worker.read(job, self._limits, last, passed)
            except _Ended as end:
                self._retire(worker)
                if end.for_memory and worker.has_read:
                    continue  # it may have held what was left of other files, which a new one doesn't
                if end.killed and not was_killed:
                    was_killed = True  # by somebody else, perhaps for what another process took: once more
                    continue
                may_do_better |= end.may_do_better
                # Only the member that did it is left out, and the rest read by another process.
                if end.member and len(passed) < _MOST_PASSED and time.monotonic() < last:
                    passed[end.member] = end.reason
                    continue
                where = f"{end.member}: " if end.member else ""
                return Read(reason=f"{where}{end.reason}", sha256="" if may_do_better else _hash(job.path))
            worker.has_read = True
            if worker.over:
                self._retire(worker)
            if found.sha256 or found.reason or found.not_opened:
                return replace(found, sha256="") if may_do_better else found
            attempts += 1
        return Read(reason="changed again and again while it was read")

    def _worker(self) -> _Worker:
        worker: _Worker | None = getattr(self._mine, "worker", None)
        if worker is None or worker.process.poll() is not None:
            if worker is not None:
                self._retire(worker)
            with self._lock:
                if self._closed:
                    raise CorpusError("the build was interrupted; run it again")
                try:
                    worker = self._mine.worker = _Worker(self._limits)
                except OSError as error:
                    raise CorpusError(f"a process to read documents in can't be started ({error})") from error
                self._running.add(worker)
            worker.begin()
        return worker

    def _retire(self, worker: _Worker) -> None:
        worker.end()
        with self._lock:
            self._running.discard(worker)
        self._mine.worker = None


class _Ended(Exception):
    """A worker can't go on.

    Attributes:
        reason: what is said of the file.
        member: of an archive or a mail, which is to blame; empty for the file itself.
        killed: by the system or a person; no limit of a worker's ends it so.
        for_memory: or perhaps so; a library may crash where it gets none.
        may_do_better: another time, though the file be the same: it was due to the machine.
    """

    def __init__(
        self,
        why: str,
        member: str = "",
        *,
        killed: bool = False,
        for_memory: bool = False,
        unused: bool = False,
    ) -> None:
        super().__init__(why)
        self.member, self.killed, self.may_do_better = member, killed, killed or unused
        self.for_memory = for_memory
        self.reason = f"{why}; {NEXT_BUILD}" if self.may_do_better else why


class _Worker:
    """A process and its two pipes. One thread asks it; any may end it.

    Attributes:
        process: which it is.
        over: it is about to end.
        has_read: a file, whatever came of it.
    """

    def __init__(self, limits: Limits) -> None:
        theirs, mine = os.pipe()
        self._answers, back = os.pipe()
        self._ask = os.fdopen(mine, "wb")
        numbers = (theirs, back, os.getpid(), limits.memory_bytes)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _CODE, json.dumps(sys.path), *map(str, numbers)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                pass_fds=(theirs, back), env=os.environ | _ONE_THREAD,
            )  # fmt: skip
        finally:
            os.close(theirs)
            os.close(back)
        self._ending = threading.Lock()
        self.over = self.has_read = False
        self._member = ""  # that is being read
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN)

    def begin(self) -> None:
        """Wait until it is there, which is due to this machine and no file.

        Raises:
            CorpusError: it isn't.
        """
        try:
            within = Deadline(self.process.pid, _START_SECONDS, math.inf)
            kind, *_ = self._frame(within, FRAME.size)
        except (_Ended, TimeoutError) as error:
            raise CorpusError(
                f"a process to read documents in can't be started ({error or 'it takes long'}); check that "
                f"`{sys.executable} -c 'import fidkit.passages.load.worker'` works"
            ) from error
        if kind != READY:
            raise CorpusError(f"a process to read documents in says {kind!r}; expected a worker of fidkit")

    def read(self, job: Job, limits: Limits, last: float, passed: dict[str, str]) -> Read:
        """Have a file read.

        Args:
            job: the file.
            limits: of each document.
            last: when it has to be done, by the monotonic clock.
            passed: members of the file that aren't read, and why.

        Raises:
            _Ended: this worker ended on it, or had to be ended.
        """
        seconds, self._member = limits.seconds_for(job.size), ""
        self._say(job, seconds, passed)
        documents: list[tuple[Packed, tuple[Row, ...]]] = []
        room, characters, members = limits.result_bytes, limits.characters, dict[str, int]()
        while True:
            deadline = Deadline(self.process.pid, seconds, last)
            try:
                kind, said, parts, size = self._frame(deadline, room)
            except TimeoutError:
                why = f"took longer than {seconds:,.0f} s to read"
                raise _Ended(why, self._member, unused=deadline.unused) from None
            if kind == BEGUN:
                self._member = _text(said, "member")
                continue
            if kind == DOCUMENT:
                room -= FRAME.size + size
                if len(documents) == limits.documents:
                    raise _Ended(f"holds more than {limits.documents:,} documents")
                document, length = _document(said, parts, job.name, members)
                characters -= length
                if characters < 0:
                    raise _Ended(f"holds more than {limits.characters:,} characters")
                documents.append(document)
                continue
            self.over = bool(said.get("over"))
            if kind == DONE:
                return Read(tuple(documents), sha256=_text(said, "sha256"))
            elif kind == FAILED:
                if said.get("memory"):
                    most = limits.memory_bytes / 1e6
                    why = f"needs more than {most:,.0f} MB of memory to be read"
                    raise _Ended(why, self._member, for_memory=True)
                # What is missing may be installed later, while the file stays as it is.
                return Read(
                    reason=_text(said, "reason"), sha256="" if said.get("missing") else _hash(job.path)
                )
            elif kind == NOT_OPENED:
                number = said.get("number")
                return Read(not_opened=_text(said, "reason"), number=number if isinstance(number, int) else 0)
            else:
                raise _Ended(f"its loader sent {kind!r}")

    def end(self) -> None:
        """End the process at once. May be called again, and by another thread."""
        with suppress(OSError):
            self.process.kill()
        self.process.wait()
        with self._ending, suppress(OSError):
            self._ask.close()

    def _say(self, job: Job, seconds: float, passed: dict[str, str]) -> None:
        asked = {
            "path": os.fspath(job.path), "name": job.name, "loader": job.loader, "seconds": seconds,
            "cutting": (job.cutting.words, job.cutting.overlap), "passed": passed,
        }  # fmt: skip
        try:
            self._ask.write(json.dumps(asked).encode() + b"\n")
            self._ask.flush()
        except (OSError, ValueError) as error:
            raise _Ended("the process that should read it had ended") from error

    def _frame(self, deadline: Deadline, room: int) -> tuple[bytes, dict[str, Any], list[bytes], int]:
        """The next frame: its letter, its JSON, the parts behind that, and the size of all.

        Raises:
            TimeoutError: it isn't there in time.
            _Ended: the process ended, or sends what is none, or too much.
        """
        kind, *lengths = FRAME.unpack(self._bytes(FRAME.size, deadline))
        if sum(lengths) > room:
            raise _Ended("holds more than a document may")
        head, *parts = (self._bytes(length, deadline) for length in lengths)
        try:
            said = json.loads(head)
            if not isinstance(said, dict):
                raise TypeError(type(said))
        except (ValueError, TypeError, RecursionError) as error:
            raise _Ended("its loader sent what is no JSON") from error
        return kind, said, parts, sum(lengths)

    def _bytes(self, count: int, deadline: Deadline) -> bytes:
        found = bytearray()
        while len(found) < count:
            while not self._poll.poll(1000 * (left := deadline.left())):
                if left <= 0:
                    raise TimeoutError
            piece = os.read(self._answers, min(_PIECE, count - len(found)))
            if not piece:
                code = self.process.wait()
                killed, in_time = code == -signal.SIGKILL, code != -signal.SIGXCPU
                raise _Ended(_why(code), self._member, killed=killed, for_memory=in_time)
            found += piece
        return bytes(found)

    def __del__(self) -> None:
        with suppress(OSError, AttributeError):
            os.close(self._answers)


def _why(code: int) -> str:
    """What ended a process."""
    if code == -signal.SIGXCPU:
        return "took too much processor time to read"
    if code == -signal.SIGKILL:
        return "the process that read it was killed, perhaps for want of memory"
    if code < 0:
        with suppress(ValueError):
            return f"its loader crashed ({signal.Signals(-code).name})"
    return f"its loader ended the process (exit code {code})"


def _document(
    said: dict[str, Any], parts: list[bytes], name: str, members: dict[str, int]
) -> tuple[tuple[Packed, tuple[Row, ...]], int]:
    """A document with its passages, if it can be one, and its length; members of one name are numbered."""
    try:
        member, facts, notes = _text(said, "member"), said["facts"], said["notes"]
        members[member] = times = members.get(member, 0) + 1
        if times > 1:
            member = f"{member} ({times})"
        packed = Packed(
            member, _text(said, "title"),
            {str(key): str(value) for key, value in facts.items()}, tuple(map(str, notes)), *parts,
        )  # fmt: skip
        text, whole = text_of(packed.text), source_of(name, member)
        rows = []
        for number, (title, start, end) in enumerate(said["passages"], start=1):
            if not 0 <= start < end <= len(text):
                raise ValueError(f"{start} to {end} of {len(text)} characters")
            rows.append(Row(f"{whole}#{number}", str(title), text[start:end], start, end))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _Ended(f"its loader sent what is no document ({error})") from error
    return (packed, tuple(rows)), len(text)


def _text(said: dict[str, Any], key: str) -> str:
    value = said.get(key, "")
    return value if isinstance(value, str) else ""


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as raw:
            return hashlib.file_digest(raw, "sha256").hexdigest()
    except OSError:
        return ""
