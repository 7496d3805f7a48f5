"""What directories of ours share: one writer at a time, safe files, and SQLite that many read."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fidkit.errors import FidkitError


@contextmanager
def held(lock: Path, error: type[FidkitError], busy: str) -> Iterator[None]:
    """Hold a lock file; the system releases it when the process dies, however it dies.

    Args:
        lock: made if missing, in a directory that is there.
        error: raised where the directory can't be written, or somebody else holds the lock.
        busy: what is said then, behind the directory.
    """
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as problem:
        raise error(
            f"{lock.parent}: can't be written ({problem.strerror}); check its permissions"
        ) from problem
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as problem:
        raise error(f"{lock.parent}: {busy}") from problem
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Force a file, or the entries of a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def connect_to_read(file: Path) -> sqlite3.Connection:
    """Open an SQLite file that somebody may be writing.

    Raises:
        sqlite3.DatabaseError: it can't be read.
    """
    uri = file.resolve().as_uri()
    # A log needs a place to write. Where there is none nobody writes, so SQLite may do without it.
    modes = ("mode=ro", "mode=ro&immutable=1")
    for mode in modes:
        connection = sqlite3.connect(
            f"{uri}?{mode}", uri=True, isolation_level=None, check_same_thread=False, timeout=10
        )
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
            return connection
        except sqlite3.DatabaseError:
            connection.close()
            if mode == modes[-1]:
                raise
    raise AssertionError("the last mode opens or raises")


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is at fault, and no lock or full disk."""
    return any(sign in str(error) for sign in ("not a database", "malformed"))
