"""What directories of ours share: one writer at a time, safe files, and what a disk says."""

from __future__ import annotations

import errno
import math
import os
import re
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fidkit.errors import FidkitError
from fidkit.wording import in_one_line

if TYPE_CHECKING:
    from filelock import FileLock

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_OTHERS_OF_THE_DISK = frozenset(
    {errno.EIO, errno.EROFS, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.EFBIG}
)
# Libraries in other languages pass on what the system said, without its number.
_SAY_FULL = ("No space left on device", "Disk quota exceeded")
_SAY_TOO_LARGE = "File too large"
# tantivy and PyTorch say only that writing ended. That the disk is to blame, its free bytes must tell.
_SAY_LITTLE = (
    "index writer was killed",
    "error occurred in a thread",
    "PytorchStreamWriter",
    "unexpected pos",
)
_SCARCE_BYTES = 8_000_000
_NO_ROOM_BYTES = 65_536
_WRITTEN_OUT = re.compile(rb"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|([nt]))")


class WriteError(Exception):
    """A library couldn't write its files, and has no number for the reason."""


@contextmanager
def held(
    lock: Path,
    error: type[FidkitError],
    busy: str,
    *,
    wait: float = 0.0,
    waiting: Callable[[], None] | None = None,
    refused: type[FidkitError] | None = None,
) -> Iterator[bool]:
    """Hold a lock file; the system releases it when the process dies, however it dies.

    Args:
        lock: made if missing, in a directory that is there.
        error: raised where the directory can't be written, or somebody else holds the lock.
        busy: what is said then, behind the directory.
        wait: seconds to wait for somebody else; `math.inf` for as long as it takes.
        waiting: called once when the wait begins.
        refused: raised instead of `error` where somebody else holds the lock.

    Yields:
        Whether somebody else had to be waited for.
    """
    from filelock import FileLock, Timeout  # those who only read need none

    # Not by thread: what a generator holds may be let go by another. Not by a mark in the file where the
    # system has no locks: nobody would take that back when the process dies.
    holder = FileLock(lock, mode=0o644, thread_local=False, fallback_to_soft=False)
    try:
        waited = _acquire(holder, wait, waiting)
    except Timeout as problem:
        raise (refused or error)(f"{shown(lock.parent)}: {busy}") from problem
    except OSError as problem:
        raise error(
            f"{shown(lock.parent)}: can't be written ({problem.strerror or problem}); check its permissions"
        ) from problem
    try:
        yield waited
    finally:
        holder.release()


def _acquire(holder: FileLock, wait: float, waiting: Callable[[], None] | None) -> bool:
    from filelock import Timeout

    try:
        holder.acquire(timeout=0)
        return False
    except Timeout:
        if wait <= 0:
            raise
    if waiting:
        waiting()
    holder.acquire(timeout=-1 if math.isinf(wait) else wait)
    return True


@contextmanager
def explained(
    directory: Path, error: type[FidkitError], what: str, *, after: str, needed: str = ""
) -> Iterator[None]:
    """Say in one line why something couldn't be written. The disk is blamed where it is to blame.

    Args:
        directory: that is written to.
        error: raised instead of the `OSError`, SQLite's error or `WriteError`.
        what: is written there, a word.
        after: in which state it is now.
        needed: how much room it takes, as in "5 MB are needed".
    """
    try:
        yield
    except (OSError, sqlite3.OperationalError, WriteError) as problem:
        place = shown(directory)
        if is_full(problem, directory) or is_too_large(problem):
            free = f"{free_bytes(directory) / 1e6:,.0f} MB free{', ' if needed else ''}{needed}"
            raise error(
                f"{place}: the disk is full or the file too large ({free}); free some space and run the "
                f"build again, {after}"
            ) from problem
        remedy = "check the disk" if is_of_the_disk(problem) else "mend that"
        raise error(
            f"{place}: the {what} can't be written ({problem}); {remedy} and run the build again, {after}"
        ) from problem


def is_full(error: BaseException, directory: Path) -> bool:
    """Whether an error says that a disk or a quota is full.

    Args:
        error: of the system, SQLite, or a library that writes.
        directory: that was written to. Where a library doesn't say why it stopped, its free bytes tell.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    if isinstance(error, sqlite3.Error):
        code = _sqlite_code(error)
        # Of the memory that its processes share, SQLite says no more than that it can't be made.
        no_room = code == sqlite3.SQLITE_IOERR and free_bytes(directory) < _NO_ROOM_BYTES
        return code == sqlite3.SQLITE_FULL or no_room
    said = str(error)
    if any(sign in said for sign in _SAY_FULL):
        return True
    return any(sign in said for sign in _SAY_LITTLE) and free_bytes(directory) < _SCARCE_BYTES


def is_too_large(error: BaseException) -> bool:
    """Whether an error says that a file may not become so large."""
    return getattr(error, "errno", None) == errno.EFBIG or _SAY_TOO_LARGE in str(error)


def is_of_the_disk(error: BaseException) -> bool:
    """Whether the system, or SQLite in its name, says that the disk doesn't do what it should."""
    if isinstance(error, sqlite3.Error):
        return _sqlite_code(error) in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL)
    return isinstance(error, OSError) and error.errno in _FULL | _OTHERS_OF_THE_DISK


def free_bytes(directory: Path) -> int:
    """What the disk of a directory has left; 0 where there is no such directory."""
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return 0


def _sqlite_code(error: sqlite3.Error) -> int:
    """SQLite's primary code; the upper bytes say more about it."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def shown(path: str | os.PathLike[str]) -> str:
    r"""A path as text of one line that can be printed and stored, whatever its name: `caf\xe9\n.txt`.

    Python hides bytes that it can't decode in half characters. Those that are UTF-8, which a process
    without a locale can't decode either, come back as characters. Control characters are written out.
    """
    text = os.fspath(path)
    if text.isascii() and text.isprintable():  # as most are, and there may be many
        return text
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return in_one_line(text)


def found_again(text: str) -> Path:
    """The file that `shown` gave this text for, if it is there; else the path that the text is."""
    as_it_is = text.encode("utf-8", "surrogateescape")
    path, written_out = Path(os.fsdecode(as_it_is)), Path(os.fsdecode(_WRITTEN_OUT.sub(_bytes_of, as_it_is)))
    return written_out if not os.path.lexists(path) and os.path.lexists(written_out) else path


def _bytes_of(written: re.Match[bytes]) -> bytes:
    byte, character, short = written.groups()
    if byte:
        return bytes([int(byte, 16)])
    return chr(int(character, 16)).encode() if character else {b"n": b"\n", b"t": b"\t"}[short]


def sync(path: Path) -> None:
    """Force a file, or the entries of a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def permit(path: Path) -> None:
    """Let those read a file who may read what else this process writes.

    Temporary files, and those that some libraries write, are for their owner alone; what one user has made
    may be served by another.
    """
    probe = path.with_name(f".{secrets.token_hex(8)}")
    try:
        probe.touch(exist_ok=False)
        path.chmod(probe.stat().st_mode)
    finally:
        probe.unlink(missing_ok=True)
