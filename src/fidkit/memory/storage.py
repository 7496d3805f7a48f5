"""Where shards lie: a folder here, or an object store (`fidkit.memory.objects`)."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from fidkit.disk import sync
from fidkit.errors import UsageError
from fidkit.memory.layout import PART, is_shard, put_in_place

# Well below the usual limit of 1,024 open files of a process.
_MOST_OPEN = 128


class Storage(Protocol):
    """Shards by name. Reading is safe from many threads.

    Attributes:
        where: as `open_storage` takes it; empty for the memory's own folder.
        threads: how many of them pay.
    """

    where: str
    threads: int

    def read(self, name: str, offset: int, into: memoryview) -> None:
        """Fill the buffer from a place in a shard.

        Raises:
            FileNotFoundError: there is no such shard.
            EOFError: it ends before that.
            ConnectionError, PermissionError: that can't be known now, or by us.
            OSError: it can't be read.
        """
        ...

    def size(self, name: str) -> int:
        """Bytes of a shard.

        Raises:
            FileNotFoundError: there is no such shard.
            OSError: it can't be asked for.
        """
        ...

    def put(self, name: str, path: Path) -> None:
        """Bring a finished file here, whole or not at all, and safe when this returns."""
        ...

    def delete(self, name: str) -> None:
        """Delete a shard, if it is there."""
        ...

    def list(self) -> list[str]:
        """Names of all shards, in order."""
        ...

    def forget(self, keep: Collection[str] = ()) -> None:
        """Let go of what is held open, except of these shards."""
        ...


def open_storage(where: str, own: Path) -> Storage:
    """The storage of a memory.

    Args:
        where: empty for the memory's own folder, a path or `file://` URL of another, or a URL of an object
            store such as `s3://bucket/prefix`.
        own: the memory's directory.

    Raises:
        UsageError: a URL of a kind that is not known, or the extra `s3` is not installed.
    """
    parts = urlsplit(where)
    if parts.scheme in ("", "file"):
        path = Path(unquote(parts.path)) if parts.scheme else Path(where)
        if where and not path.is_absolute():
            raise UsageError(f"shards at {where!r}: expected an absolute path, such as {path.absolute()}")
        return Folder(path if where else own, where)
    from fidkit.memory.objects import Objects

    return Objects(where)


@dataclass
class _Handle:
    descriptor: int
    users: int = 0
    current: bool = True


class Folder:
    """Shards as files, read with positional reads. Keeps some files open."""

    # More only wait for each other where the files are in memory, and are no faster where they are not.
    threads = 8

    def __init__(self, directory: Path, where: str = "") -> None:
        self.directory, self.where = directory, where
        self._lock = threading.Lock()
        self._handles: OrderedDict[str, _Handle] = OrderedDict()

    def read(self, name: str, offset: int, into: memoryview) -> None:
        with self._opened(name) as descriptor:
            while into:
                count = _read_at(descriptor, into, offset)
                if not count:
                    raise EOFError(f"{name} ends at byte {offset}")
                into, offset = into[count:], offset + count

    def size(self, name: str) -> int:
        return _require_file(name, (self.directory / name).stat()).st_size

    def put(self, name: str, path: Path) -> None:
        final = self.directory / name
        if path == final:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(prefix=name, suffix=PART, dir=self.directory)
        os.close(descriptor)
        try:
            shutil.copyfile(path, part)
            sync(Path(part))
            put_in_place(Path(part), final)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise

    def delete(self, name: str) -> None:
        with self._lock:
            if name in self._handles:
                self._drop(name)
        path = self.directory / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def list(self) -> list[str]:
        with suppress(FileNotFoundError):
            return sorted(entry.name for entry in self.directory.iterdir() if is_shard(entry.name))
        return []

    def forget(self, keep: Collection[str] = ()) -> None:
        with self._lock:
            for name in [name for name in self._handles if name not in keep]:
                self._drop(name)

    @contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        with self._lock:
            handle = self._handles.get(name)
            if handle is None:
                handle = _Handle(_open(self.directory / name))
                self._handles[name] = handle
            self._handles.move_to_end(name)
            handle.users += 1
            if len(self._handles) > _MOST_OPEN:
                self._drop(next(iter(self._handles)))
        try:
            yield handle.descriptor
        finally:
            with self._lock:
                handle.users -= 1
                if not handle.current and not handle.users:
                    os.close(handle.descriptor)

    def _drop(self, name: str) -> None:
        """Close now, or when the last one who reads is done."""
        handle = self._handles.pop(name)
        handle.current = False
        if not handle.users:
            os.close(handle.descriptor)


def _open(path: Path) -> int:
    # A pipe that nobody writes would be waited for.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        _require_file(path.name, os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _require_file(name: str, found: os.stat_result) -> os.stat_result:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, f"{name} is no file")
    return found


def _read_at(descriptor: int, into: memoryview, offset: int) -> int:
    """Read into a buffer from a place in a file; how many bytes. macOS had no `preadv` for long."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [into], offset)
    packed = os.pread(descriptor, len(into), offset)
    into[: len(packed)] = packed
    return len(packed)
