"""The documents that are served: folders that are followed, and what callers add to them.

What is added lies in a folder of its own, under the name that it was given without any path, and is read by
the limited workers that read all files. A corpus that was built before is served as it is.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from fidkit import assets
from fidkit.disk import shown
from fidkit.engine.meaning import runnable
from fidkit.errors import FidkitError, UsageError
from fidkit.passages import Passages
from fidkit.passages.engines import is_url
from fidkit.passages.load.table import described, ending_of, loader_of
from fidkit.passages.local.away import AwayError
from fidkit.passages.local.copying import begin_as_copy
from fidkit.passages.local.corpus import Corpus
from fidkit.passages.local.layout import CATALOGUE, CorpusBusyError, default_location, is_corpus
from fidkit.passages.local.records import FileRecord
from fidkit.passages.local.report import BuildProgress
from fidkit.passages.local.watch import follow
from fidkit.passages.opening import left_out_of, open_sources
from fidkit.server.errors import RequestError
from fidkit.server.service import Service
from fidkit.server.told import of_indexing
from fidkit.wording import counted, some

_PIECE = 1 << 20
_NAME_BYTES = 200
NAMED = 20
"""Files that a message names at most."""
_BUSY_SECONDS = 600.0
_AGAIN_SECONDS = 10.0
_LOOK_SECONDS = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Added:
    """A file that a caller added.

    Attributes:
        name: as it was given, and as evidence names it.
        size: bytes.
        status: `waiting` to be read, `indexed`, or `left out`.
        reason: why it was left out, or what of it was.
    """

    name: str
    size: int
    status: str
    reason: str = ""


class _Ended(Exception):
    """Nobody waits for what is being built any more."""


class Library:
    """Documents as they are served, kept up to date.

    Args:
        sources: folders and files, a built corpus or its URL; none for fidkit's own until something is
            added, and then for what was added alone.

    Attributes:
        corpus: what is opened first.
        notes: what a person should know of it.
        folder: where added files are kept; None where nothing can be added.
    """

    def __init__(self, sources: Sequence[str], tell: Any = None) -> None:
        self._given = list(sources)
        if "" in self._given:
            raise UsageError("'' is no path; expected a folder, a file or a built corpus")
        built = len(self._given) == 1 and (is_url(self._given[0]) or is_corpus(Path(self._given[0])))
        # Where things lie is settled now, whatever becomes of the environment.
        self._places = default_location([]).parent.absolute()
        self.folder = None if built else self._added_to(self._given)
        self._indexed = self._listed()
        self._sources = self._all()
        self.corpus, self.notes = open_sources(self._sources or None, tell, runnable())
        self._identity, self._is_away = _identity(self.corpus), False
        self._stop, self._changed = threading.Event(), threading.Event()
        self._wake = threading.Event()
        self._listeners: set[asyncio.Queue[dict[str, Any]]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: list[threading.Thread] = []
        self._service: Service | None = None

    def start(self, service: Service) -> None:
        """Keep the documents of a service up to date from now on, in threads of their own."""
        self._service = service
        self._loop = asyncio.get_running_loop()
        for work in (self._index, self._follow) if self.folder else (self._index,):
            name = f"fidkit-{work.__name__.strip('_')}"
            thread = threading.Thread(target=self._until_ended, args=(work,), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End. A build that is under way ends too, and goes on where it was when the documents are opened."""
        for event in (self._stop, self._changed, self._wake):
            event.set()
        for thread in self._threads:
            thread.join()

    def added(self, files: Iterable[FileRecord], noted: Mapping[str, str]) -> list[Added]:
        """The files that callers added, by name.

        Args:
            files: of the corpus that is served.
            noted: the first note of each of its documents that has some.
        """
        if self.folder is None:
            return []
        records, found = {record.path: record for record in files}, []
        for name, size, mtime_ns in self._listed():
            record = records.get(shown(self.folder / name))
            # One that was read in the moment it was written has no time, and is looked at again.
            if record is None or record.size != size or record.mtime_ns not in (0, mtime_ns):
                found.append(Added(name, size, "waiting"))
            else:
                found.append(Added(name, size, *standing(record, noted)))
        return found

    def add(self, name: str, content: BinaryIO) -> str:
        """Keep a file; it is read in a moment. One of the same name is replaced.

        Raises:
            RequestError: nothing can be added here, no name of a file, or of a kind that isn't read.
        """
        folder, kept = self._required(), file_name(name)
        temporary = None
        try:
            handle, temporary = tempfile.mkstemp(dir=folder.parent)
            with os.fdopen(handle, "wb") as out:
                while piece := content.read(_PIECE):
                    out.write(piece)
            os.replace(temporary, folder / kept)
        except OSError as error:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            raise RequestError(
                507, f"{kept}: can't be kept ({error.strerror}); make room, and try again"
            ) from error
        self._wake.set()
        return kept

    def remove(self, name: str) -> None:
        """Take out a file that was added.

        Raises:
            RequestError: there is none of this name.
        """
        folder = self._required()
        with os.scandir(folder) as entries:  # a name is looked up, and never made a path of
            found = [entry.path for entry in entries if entry.name == name]
        if found:
            with suppress(FileNotFoundError):  # somebody else took it out in this moment
                os.unlink(found[0])
                self._wake.set()
                return
        raise RequestError(
            404, f"no file {name!r} was added; GET /v1/documents lists those that were", "name"
        )

    def listen(self) -> asyncio.Queue[dict[str, Any]]:
        """What happens from now on, as events; `forget` ends it."""
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(maxsize=1000)
        self._listeners.add(queue)
        return queue

    def forget(self, queue: asyncio.Queue[dict[str, Any]]) -> None:
        """End listening."""
        self._listeners.discard(queue)

    def _required(self) -> Path:
        if self.folder is None:
            raise RequestError(
                409, "a corpus that was built before is served as it is; serve folders to add documents"
            )
        return self.folder

    def _place(self, sources: Sequence[str]) -> Path:
        """Where the corpus of these sources lies."""
        return self._places / default_location(sources).name

    def _added_to(self, given: Sequence[str]) -> Path:
        """Where files are kept that are added to these sources."""
        folder = self._places / f"{default_location([*given, assets.documents()]).name}-added" / "added"
        folder.mkdir(parents=True, exist_ok=True)
        return folder.resolve()  # as the corpus names what is in it

    def _all(self) -> list[str]:
        """What is to be indexed: what was given, and what was added.

        An empty folder isn't: where nothing is left in a source that had something, a build takes it for one
        that is away.
        """
        if self.folder is None:
            return self._given
        return [*self._given, *([str(self.folder)] if os.listdir(self.folder) else [])]

    def _listed(self) -> list[tuple[str, int, int]]:
        """The added files as they are now: name, size, time."""
        if self.folder is None:
            return []
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # taken out in this moment
                    status = entry.stat()
                    found.append((entry.name, status.st_size, status.st_mtime_ns))
        return sorted(found)

    def _until_ended(self, work: Callable[[], None]) -> None:
        with suppress(_Ended):
            work()

    def _index(self) -> None:
        """Index what was added or removed, here or by another server, and open a corpus that was replaced.

        After a fault it is tried again and again.
        """
        while True:
            self._wake.wait(_LOOK_SECONDS)
            if self._stop.is_set():
                return
            self._wake.clear()
            try:
                found, begun = self._listed(), time.perf_counter()
                if found == self._indexed and not self._is_replaced():
                    self._went_well("index")
                    continue
                self._build()
            except (FidkitError, OSError) as error:
                self._say_fault(error, "index")
                self._wake.wait(_AGAIN_SECONDS)  # or until something else is added
            else:
                self._went_well("index")
                self._indexed = found
                self._say({"event": "indexed", "seconds": round(time.perf_counter() - begun, 3)})

    def _build(self) -> None:
        """Bring the corpus up to date; where sources came or went it is another one, begun as a copy."""
        assert self._service is not None
        before, now = self._sources, self._all()
        if now and self.folder is not None:
            where = self._place(now)
            if before:
                begin_as_copy(where, self._place(before), _BUSY_SECONDS)
            corpus = Corpus.build(
                now, where, self._progress, wait=_BUSY_SECONDS, encoder=runnable(), tidied=False
            )
            if now == before and not self._is_replaced():
                corpus.close()
                return
            notes = left_out_of(corpus)
        elif now == before and not self._is_replaced():
            return  # nothing is given, and what was added was taken out again
        else:
            corpus, notes = open_sources(now or None, self._progress, runnable())
        self._service.replace_corpus(corpus, notes)
        self._sources = now  # and not before: where this fails, it is tried again
        self._identity, self._is_away = _identity(self._service.corpus), False
        self._changed.set()

    def _is_replaced(self) -> bool:
        """Whether another corpus lies where the one was that is served, or is to be made there.

        One that was deleted is still open, and answers until then.
        """
        assert self._service is not None
        found = _identity(self._service.corpus)
        if self._identity and not found and not self._is_away:
            self._is_away = True
            _log.warning("%s: was deleted while it is served", shown(self._service.corpus.derived))
        return found != self._identity and bool(found or self.folder)

    def _follow(self) -> None:
        """Take up what changes in folders that were given."""
        while self._given and not self._stop.is_set():
            self._changed.clear()
            sources = self._sources
            followed = follow(
                sources, self._place(sources), self._progress, wait=_BUSY_SECONDS, encoder=runnable(),
                stop=self._changed,
            )  # fmt: skip
            for report in followed:
                if isinstance(report, CorpusBusyError):
                    continue  # what it builds is the same, and is looked at again
                if isinstance(report, FidkitError):
                    self._say_fault(report, "follow")
                    continue
                self._went_well("follow")
                if report.files_read or report.files_removed:
                    self._say({"event": "indexed", "seconds": report.seconds})

    def _progress(self, progress: BuildProgress) -> None:
        if self._stop.is_set():
            raise _Ended
        self._say({"event": "progress", **asdict(progress)})

    def _say_fault(self, error: FidkitError | OSError, work: str) -> None:
        if isinstance(error, AwayError) and self.folder is not None and not os.listdir(self.folder):
            return  # the last of what was added was taken out just now, and what is indexed next is without
        _log.warning("%s; what was indexed before is served meanwhile", error)
        told = of_indexing(error, self._sources)
        if self._service is not None:
            self._service.tell_of(work, told)
        self._say({"event": "error", "message": told})

    def _went_well(self, work: str) -> None:
        assert self._service is not None
        self._service.tell_of(work)

    def _say(self, event: dict[str, Any]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell, event)

    def _tell(self, event: dict[str, Any]) -> None:
        for queue in self._listeners:
            if not queue.full():  # one who doesn't listen any more is forgotten soon
                queue.put_nowait(event)


def standing(file: FileRecord, noted: Mapping[str, str]) -> tuple[Literal["indexed", "left out"], str]:
    """How a file is served, and what is to be said of it: one that nothing can be found in is left out.

    A corpus tells files that were not read from files that hold no text, which is nothing to one who looks
    for what stands in them.

    Args:
        file: of the corpus that is served.
        noted: the first note of each of its documents that has some.
    """
    if file.kind == "skipped" or not file.passages:
        return "left out", file.note or noted.get(file.name) or "holds no text"
    return "indexed", file.note


def _identity(corpus: Passages) -> tuple[int, int] | None:
    """What is another when another corpus lies in the place of one; None where none does."""
    try:
        found = (corpus.derived / CATALOGUE).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def file_name(name: str) -> str:
    """The name of a file that a caller gives, without any path.

    Raises:
        RequestError: nothing is left of it, it is too long, or no such file is read.
    """
    kept = name.replace("\\", "/").rsplit("/", 1)[-1].strip()
    if not kept or kept.startswith(".") or any(ord(c) < 32 or ord(c) == 127 for c in kept):
        raise RequestError(422, f"{name!r} is no name of a file; expected one such as contract.pdf", "name")
    try:
        length = len(kept.encode())
    except UnicodeEncodeError:
        raise RequestError(422, f"{name!r} is no text; give the file another name", "name") from None
    if length > _NAME_BYTES:
        raise RequestError(422, f"the name {kept[:40]}… has {length} bytes; {_NAME_BYTES} are taken", "name")
    if loader_of(kept) is None:
        ending = ending_of(kept) or "a file without an ending"
        raise RequestError(415, f"{kept}: {ending} isn't read; {described()} are", "name")
    return kept


def said_of(names: Sequence[str], refused: Sequence[str] = ()) -> str:
    """What was taken, and which files were not, in words."""
    others = f"; {len(refused):,} not: {some(refused, NAMED)}" if refused else ""
    return f"{counted(len(names), 'file')} taken, read in a moment{others}"
