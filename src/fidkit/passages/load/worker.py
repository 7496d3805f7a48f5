"""What runs in a worker's process: it reads one file after the other and says what is in them.

Asked are lines of JSON; answers are frames of a letter, three lengths, and JSON with two or three blocks of
bytes behind it, over a pipe of their own: what libraries print goes nowhere. Nothing here is pickled.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from io import BufferedReader
from typing import Any, BinaryIO

from fidkit.passages.load.document import Document
from fidkit.passages.load.members import Watch, watched
from fidkit.passages.load.packed import pack
from fidkit.passages.load.record import UnreadableFile
from fidkit.passages.load.rows import passages_of, unpacked
from fidkit.passages.load.table import NAMED, Loader, loader_of, reader_apart
from fidkit.passages.load.wire import BEGUN, DOCUMENT, DONE, FAILED, FRAME, NOT_OPENED, READY

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_LARGEST_FILE = 1 << 30  # that a library may write on its way
_RETIRES_AT = 0.5
"""Of the memory that a worker may take: with so much, it makes room for another."""


def serve(asked: int, answers: int, parent: int, memory_bytes: int) -> None:
    """Read what is asked for until there is nothing more, or nobody who asks.

    Args:
        asked: descriptor to read jobs from.
        answers: descriptor to write to.
        parent: who started this.
        memory_bytes: how much memory may be taken.
    """
    _obey(parent, memory_bytes)
    with os.fdopen(asked, "rb") as lines, os.fdopen(answers, "wb") as out:
        _send(out, READY, {})
        for line in lines:
            over = _answer(json.loads(line), out, int(memory_bytes * _RETIRES_AT))
            if over:
                return


def _obey(parent: int, memory_bytes: int) -> None:
    """Set limits that nothing here can lift."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent decides
    with suppress(AttributeError, OSError):  # systems other than Linux see the end of the pipe
        ctypes.CDLL(None, use_errno=True).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that was set
        os._exit(0)
    # Where the machine itself has no memory left, this process goes before any other.
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_FSIZE, _LARGEST_FILE),
    ):
        with suppress(ValueError, OSError):  # not all systems have all of them
            resource.setrlimit(kind, (most, most))


def _answer(job: dict[str, Any], out: BinaryIO, retires_at: int) -> bool:
    """Read a file; say what is in it, or why nothing is. Whether this process should end then."""
    try:
        raw = open(job["path"], "rb")  # noqa: SIM115 - closed below
        before = _hash(raw)  # all of it is read once, so that a disk that fails isn't blamed on the loader
    except OSError as error:
        _send(out, NOT_OPENED, {"reason": error.strerror or str(error), "number": error.errno or 0})
        return False
    with raw:
        try:
            with watched(Watch(partial(_say_begun, out, job["seconds"]), job["passed"])):
                for document in _documents(raw, job):
                    _send_document(out, document, job)
                    _allow_seconds(job["seconds"])
            after = _hash(raw)
        except MemoryError:
            # What is left of the memory may be in pieces.
            _send(out, FAILED, {"reason": "", "memory": True, "over": True})
            return True
        except BaseException as error:
            over, missing = _peak_bytes() > retires_at, isinstance(error, ImportError)
            _send(out, FAILED, {"reason": _reason(error), "missing": missing, "over": over})
        else:
            over = _peak_bytes() > retires_at
            _send(out, DONE, {"sha256": before if before == after else "", "over": over})
        return over


def _documents(raw: BinaryIO, job: dict[str, Any]) -> Iterator[Document]:
    _allow_seconds(job["seconds"])
    name, read = job["name"], job["loader"]
    known = (loader_of(name) or NAMED).read == read
    loader = (reader_apart(name) or NAMED) if known else Loader("document", read)
    with unpacked(raw, name) as stream:
        yield from loader.documents(stream, name)


def _say_begun(out: BinaryIO, seconds: float, member: str) -> None:
    """Each member of a file has the time that a document has."""
    _send(out, BEGUN, {"member": member})
    _allow_seconds(seconds)


def _send_document(out: BinaryIO, document: Document, job: dict[str, Any]) -> None:
    packed = pack(document, job["name"])
    rows = [(row.title, row.start, row.end) for row in passages_of(document, job["name"], *job["cutting"])]
    said = {
        "member": packed.member, "title": packed.title, "facts": packed.facts, "notes": packed.notes,
        "passages": rows,
    }  # fmt: skip
    _send(out, DOCUMENT, said, packed.map, packed.boxes, packed.text)


def _send(out: BinaryIO, kind: bytes, said: dict[str, Any], *parts: bytes) -> None:
    head = json.dumps(said).encode()
    lengths = [len(part) for part in (head, *parts)] + [0] * (3 - len(parts))
    out.write(FRAME.pack(kind, *lengths))
    for part in (head, *parts):
        out.write(part)
    out.flush()


def _reason(error: BaseException) -> str:
    """What went wrong, in a line without the file's name."""
    if isinstance(error, UnreadableFile):
        return error.reason
    if isinstance(error, RecursionError):
        return "nested too deep to be read"
    said = " ".join(str(error).split())[:200]
    return f"can't be read ({type(error).__name__}{': ' if said else ''}{said})"


def _allow_seconds(seconds: float) -> None:
    """From now on so much processor time; the system ends the process then, whatever it does."""
    with suppress(ValueError, OSError):
        used = resource.getrusage(resource.RUSAGE_SELF)
        most = int(used.ru_utime + used.ru_stime + seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _hash(raw: BufferedReader) -> str:
    raw.seek(0)
    digest = hashlib.file_digest(raw, "sha256").hexdigest()
    raw.seek(0)
    return digest


def _peak_bytes() -> int:
    """The most memory that this process has held."""
    with suppress(OSError, ValueError, IndexError), open("/proc/self/status", encoding="ascii") as status:
        return 1024 * int(next(line.split()[1] for line in status if line.startswith("VmHWM:")))
    # Elsewhere than on Linux. There it would be the parent's, if that had held more when it started this one.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
