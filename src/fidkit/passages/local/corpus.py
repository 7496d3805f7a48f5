"""A corpus: passages of documents and passage files, searchable, kept in one directory."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from fidkit.disk import shown
from fidkit.errors import CorpusError, FidkitError, UsageError
from fidkit.passages.alike import content_of
from fidkit.passages.engines import engine_of
from fidkit.passages.local.build import build, tidy
from fidkit.passages.local.catalogue import Catalogue, FormerFormat
from fidkit.passages.local.cuts import WantedCutting
from fidkit.passages.local.info import CorpusInfo
from fidkit.passages.local.layout import FORMAT_VERSION, CorpusBusyError, real_path
from fidkit.passages.local.records import FileRecord
from fidkit.passages.local.report import BuildProgress, BuildReport
from fidkit.passages.local.schema import sources_of
from fidkit.passages.local.searching import By, Explained, Searching
from fidkit.passages.local.stored import StoredDocument, document_of, place_in
from fidkit.passages.local.vectors import EncoderSource
from fidkit.passages.places import Where
from fidkit.types import Passage

if TYPE_CHECKING:
    from fidkit.cluster import By as ReadBy

__all__ = ["By", "Corpus", "Explained", "StoredDocument"]

_log = logging.getLogger(__name__)


class Corpus(Searching):
    """Passages and their index, opened for reading. Safe to use from several threads, not across a fork.

    A corpus that is rebuilt while open stays consistent: every call sees the state before or after. It is
    `fidkit.passages.protocol.Passages`, in a directory.

    Attributes:
        path: the directory.
        report: what the build did that this was opened by.
        notes: what a person should know of the state that is searched.
    """

    def __init__(self, directory: str | os.PathLike[str], encoder: EncoderSource | None = None) -> None:
        """The same as `open`."""
        path = Path(directory)
        super().__init__(path, _opened(path, encoder), encoder)
        self.notes: tuple[str, ...] = ()
        self.report: BuildReport | None = None

    @classmethod
    def open(cls, directory: str | os.PathLike[str], encoder: EncoderSource | None = None) -> Corpus:
        """Open a corpus that was built before.

        Args:
            directory: of the corpus, or the URL of one that a server keeps (`fidkit.passages.engines`).
            encoder: gives what made its vectors, such as `fidkit.engine.meaning.minilm`; without one it is
                searched by words.

        Raises:
            CorpusError: no corpus, never completed, damaged, of a newer format, or of an older one whose
                sources are gone; else that is built again from its sources.
        """
        engine = engine_of(directory)
        if engine is not None:
            return cast(Corpus, engine.open_corpus(os.fspath(directory), encoder))
        return cls(directory, encoder)

    @classmethod
    def build(
        cls,
        sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        to: str | os.PathLike[str],
        progress: Callable[[BuildProgress], None] | None = None,
        *,
        wait: float = 0.0,
        waiting: Callable[[], None] | None = None,
        encoder: EncoderSource | None = None,
        vectors: bool | None = None,
        passage_words: int | None = None,
        overlap: int | None = None,
        by: ReadBy = "local",
        tidied: bool = True,
    ) -> Corpus:
        """Build the corpus `to` from files and folders, or bring it up to date, and open it.

        Only new and changed files are read, and what is gone goes. `report` says what was done.

        Args:
            sources: documents, passage files (`fidkit.passages.load.table` lists them) and folders of them.
                `s3://bucket/prefix` names those in an object store. In a folder, a file that isn't what its
                ending says, or has ids of passages that were read before, is left out; `info` says so.
            to: directory of the corpus: new, empty or a corpus; or a URL, as of `open`.
            progress: called now and then while files are read.
            wait: seconds to wait where another process is building this corpus, up to `math.inf`.
            waiting: called once when such a wait begins.
            encoder: gives what makes vectors, such as `fidkit.engine.meaning.minilm`; None makes none.
            vectors: make them whatever it takes, or have none. By default a corpus that has vectors keeps
                them up to date, and one of at most 2,000 passages gets them.
            passage_words: of a passage, about, 10 to 1,000. By default what the corpus has, of a new one 100.
                Where this or `overlap` changes, all documents are read again.
            overlap: words, at most, that a passage repeats from the one before, as whole sentences; fewer
                than it has. By default what the corpus has, of a new one 0.
            by: who reads documents: workers on this machine, or `ray`, a cluster.
            tidied: see `fidkit.passages.local.build.tidy`; `refresh` goes without.

        Raises:
            UsageError: no sources, vectors without an encoder, or passages that can't be cut so.
            CorpusBusyError: another process is building it, still after `wait`.
            CorpusError: a missing source, nothing to read, a full disk.
            DataError: a source that is a file isn't what its ending says, or has an id that comes twice. On
                every error the last state that was committed is whole.
        """
        sources = [sources] if isinstance(sources, str | os.PathLike) else sources
        cutting = WantedCutting(passage_words, overlap)
        engine = engine_of(to)
        if engine is not None:
            made = engine.build_corpus(sources, os.fspath(to), progress, encoder, vectors, cutting, by)
            return cast(Corpus, made)
        report = build(
            sources, Path(to), progress, wait=wait, waiting=waiting, encoder=encoder, vectors=vectors,
            cutting=cutting, by=by,
        )  # fmt: skip
        if tidied:
            report = report.longer_by(tidy(Path(to), encoder, progress))
        corpus = cls(to, encoder)
        corpus.report = report
        return corpus

    def refresh(self, progress: Callable[[BuildProgress], None] | None = None) -> BuildReport:
        """Read what changed in the sources since the last build; quick when nothing did.

        Raises:
            CorpusError, DataError: as `build` does.
        """
        with self._lock:
            sources = sources_of(self._catalogue.meta(), self.path)
        self.report = build(map(real_path, sources), self.path, progress, encoder=self._encoder)
        return self.report

    @property
    def fingerprint(self) -> str:
        """Of ids, titles, texts and offsets of all passages, whatever their order."""
        with self._lock:
            return self._catalogue.meta()["fingerprint"]

    @property
    def generation(self) -> int:
        """Grows with every change of the passages."""
        with self._lock:
            return int(self._catalogue.meta()["generation"])

    @property
    def derived(self) -> Path:
        """Where what is made of the passages is kept: the corpus' own directory."""
        return self.path

    def get(self, ids: Iterable[str | int]) -> list[Passage]:
        """The passages with these ids, in the order asked.

        Raises:
            CorpusError: there is no such passage.
        """
        keys = [str(key) for key in ids]
        with self._lock:
            found = self._catalogue.by_id(keys)
        missing = [key for key in keys if key not in found]
        if missing:
            raise CorpusError(
                f"{shown(self.path)}: no passage with id {missing[0]!r} "
                f"({len(missing)} of {len(keys)} ids are missing); expected ids of this corpus"
            )
        return [found[key] for key in keys]

    def place(self, source: str, span: tuple[int, int] | None = None) -> Where:
        """Where characters of a document came from: pages, slides, sheets, headings, and boxes to be marked.

        Args:
            source: what a document is called, or `Passage.source`.
            span: characters of the document; by default those that `source` ends with, or all of it.

        Returns:
            Nothing in it where there is no such document, as for passages of passage files.
        """
        with self._lock:
            return place_in(self._catalogue, source, span)

    def document(self, source: str) -> StoredDocument:
        """A document as it was read.

        Args:
            source: what it is called: `notes.md`, or `archive.zip/notes.md`.

        Raises:
            CorpusError: there is none; says which are called alike.
        """
        with self._lock:
            return document_of(self._catalogue, source)

    def info(self) -> CorpusInfo:
        """What the corpus holds now."""
        with self._lock, self._catalogue.one_state():
            meta, files = self._catalogue.meta(), self._catalogue.files()
            documents = self._catalogue.count("documents")
            noted = self._catalogue.documents_with_notes()
        return CorpusInfo.of(self.path, meta, files, documents, noted)

    def files(self) -> list[FileRecord]:
        """The files that were found, read or left out, as they were then."""
        with self._lock:
            return self._catalogue.files()

    def noted(self) -> dict[str, str]:
        """The first note of each document that has some, by its name."""
        with self._lock:
            return {found.source: found.notes[0] for found in self._catalogue.documents_with_notes()}

    def count_alike(self) -> tuple[int, int]:
        """How many groups of passages say the same, and how many passages are in them; looks at each passage.

        Ten thousand take a quarter of a second.
        """
        groups = Counter(
            hashlib.blake2b(content_of(passage).encode("utf-8", "surrogatepass"), digest_size=16).digest()
            for passage in self
        )
        several = [count for count in groups.values() if count > 1]
        return len(several), sum(several)

    @property
    def unread(self) -> int:
        """Files that an interrupted build left to the next."""
        with self._lock:
            return int(self._catalogue.meta().get("unread", 0))

    def __len__(self) -> int:
        with self._lock:
            return int(self._catalogue.meta()["passages"])

    def __iter__(self) -> Iterator[Passage]:
        """All passages in the order of the sources, as they are when the iteration begins."""
        # On its own connection: an unfinished iteration holds its state, searches must not be held by it.
        catalogue = Catalogue.for_reading(self.path)
        try:
            yield from catalogue.passages()
        finally:
            catalogue.close()

    def close(self) -> None:
        """Let go of all files. The corpus can't be used afterwards."""
        with self._lock:
            self._catalogue.close()
            self._catalogue = cast(Catalogue, _Closed(self.path))
            self._forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Corpus({str(self.path)!r})"


def _opened(directory: Path, encoder: EncoderSource | None) -> Catalogue:
    """The catalogue; one of an older format is built again from its sources, with the vectors of before."""
    try:
        return Catalogue.for_reading(directory)
    except FormerFormat as former:
        _log.info(
            "%s has format version %s and is built again from its sources, in version %s",
            shown(directory), former.version, FORMAT_VERSION,
        )  # fmt: skip
        try:
            sources = [real_path(source) for source in json.loads(former.sources)]
            build(sources, directory, encoder=encoder)
        except CorpusBusyError:
            raise
        except (FidkitError, ValueError, TypeError) as error:
            raise CorpusError(f"{former}; it can't be built again as it is: {error}") from error
        return Catalogue.for_reading(directory)


class _Closed:
    """In the place of what was closed: says so to whoever uses it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def close(self) -> None:
        """Once more does no harm."""

    def __getattr__(self, name: str) -> object:
        raise UsageError(
            f"{shown(self._path)}: this corpus is closed; open it again, or use it inside its `with`"
        )
