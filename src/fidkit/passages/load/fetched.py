"""Objects of a store fetched to this machine before they are asked for, a few at a time and in their order.

A loader jumps about in its file, and runs in a process without a way to the network: so an object is a
temporary file while it is read. Files of this machine are read where they are.
"""

from __future__ import annotations

import tempfile
import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fidkit.disk import free_bytes, is_full
from fidkit.errors import CorpusError
from fidkit.passages.load.address import ObjectAddress
from fidkit.passages.load.found import SourceFile
from fidkit.passages.load.objects import THREADS, fetch

_AHEAD = 2 * THREADS
_AHEAD_BYTES = 256 << 20
"""Files, and bytes of them, that are here or on their way before they are asked for."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that is here, or on its way."""

    file: SourceFile
    at: Path
    coming: Future[None] | None = None

    def path(self) -> Path:
        """Where it is, once it is there.

        Raises:
            OSError: it isn't in the store any more, or may not be read.
            CorpusError: the store can't be reached, or the disk is full.
        """
        if self.coming is not None:
            self.coming.result()
        return self.at

    def drop(self) -> None:
        """Delete what was fetched."""
        if self.coming is not None:
            self.at.unlink(missing_ok=True)


class Fetcher:
    """Fetches with some threads, from the first object on; close it at the end."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="fidkit-fetch")
        self._ended = threading.Event()
        self._number = 0

    def ahead(self, files: Iterable[SourceFile]) -> Generator[Fetched]:
        """Each file, in order. It is there until the next one is asked for."""
        for fetched in self.keeping(files):
            try:
                yield fetched
            finally:
                fetched.drop()

    def keeping(self, files: Iterable[SourceFile]) -> Generator[Fetched]:
        """As `ahead`, but each file stays until it is dropped."""
        window: deque[Fetched] = deque()
        held = 0
        for file in files:
            window.append(self._begin(file))
            held += file.size
            while len(window) > _AHEAD or held > _AHEAD_BYTES:
                held -= window[0].file.size
                yield window.popleft()
        yield from window

    def close(self) -> None:
        """Fetch no more, and delete what is left."""
        self._ended.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        if self._folder is not None:
            self._folder.cleanup()

    def _begin(self, file: SourceFile) -> Fetched:
        if not isinstance(file.path, ObjectAddress):
            return Fetched(file, file.path)
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="fidkit-fetched-", ignore_cleanup_errors=True)
        self._number += 1
        at = Path(self._folder.name) / str(self._number)
        return Fetched(file, at, self._threads.submit(self._fetch, file.path, at))

    def _fetch(self, address: ObjectAddress, at: Path) -> None:
        try:
            with at.open("wb") as out:
                fetch(address, out, self._ended)
        except OSError as error:
            with suppress(OSError):
                at.unlink()
            if not is_full(error, at.parent):
                raise
            free = free_bytes(at.parent) / 1e6
            raise CorpusError(
                f"{at.parent.parent}: the disk is full ({free:,.0f} MB free), and {address} can't be fetched "
                "to it; free some space or set TMPDIR to another folder, and run the build again, what was "
                "committed before is whole"
            ) from error
