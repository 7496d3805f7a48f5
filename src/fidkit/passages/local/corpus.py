"""A corpus: passages of documents and passage files, searchable, kept in one directory."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fidkit.errors import CorpusError, UsageError
from fidkit.passages.local.build import BuildReport, Progress, build
from fidkit.passages.local.catalogue import Catalogue
from fidkit.passages.local.layout import FORMAT_VERSION, bytes_on_disk
from fidkit.passages.search.lexical import Lexical
from fidkit.passages.token_cache import TokenCache
from fidkit.types import Hit, Passage

# A build replaces the index under a reader at most once each time it commits, seconds apart at best.
_ATTEMPTS = 5
_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class CorpusInfo:
    """What a corpus holds.

    Attributes:
        path: the corpus directory.
        passages: number of passages.
        documents, passage_files: files they come from.
        skipped: files of the sources that were not read; `skipped_files` gives (name, reason) of each.
        bytes_on_disk: catalogue, index and caches together.
        sources: absolute paths it was built from.
        format_version, generation: of the files; the generation grows with every change of passages.
        fingerprint: of ids, titles, texts and offsets of all passages, whatever their order.
    """

    path: str
    passages: int
    documents: int
    passage_files: int
    skipped: int
    bytes_on_disk: int
    sources: list[str]
    format_version: int
    generation: int
    fingerprint: str
    skipped_files: list[tuple[str, str]]

    def to_json(self) -> dict[str, Any]:
        record = asdict(self)
        record["skipped_files"] = [{"file": name, "reason": reason} for name, reason in self.skipped_files]
        return record


class Corpus:
    """Passages and their index, opened for reading. Safe to use from several threads, not across a fork.

    A corpus that is rebuilt while open stays consistent: every call sees the state before or after.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        """The same as `open`."""
        self.path = Path(directory)
        self.report: BuildReport | None = None
        self._lock = threading.Lock()
        self._catalogue = Catalogue.for_reading(self.path)
        self._lexical: Lexical | None = None

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> Corpus:
        """Open a corpus that was built before.

        Raises:
            CorpusError: no corpus, never completed, damaged, or of a newer format.
        """
        return cls(directory)

    @classmethod
    def build(
        cls,
        sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        to: str | os.PathLike[str],
        progress: Callable[[Progress], None] | None = None,
    ) -> Corpus:
        """Build the corpus `to` from files and folders, or bring it up to date, and open it.

        Only new and changed files are read; passages of files that are gone go too. `report` of the
        result says what was done.

        Args:
            sources: documents (.txt, .md), passage files (.jsonl, .jsonl.gz, DPR .tsv) and folders of them.
            to: directory of the corpus: new, empty or a corpus.
            progress: called now and then while files are read.

        Raises:
            UsageError: no sources.
            CorpusError: a missing source, nothing to read, a second writer, a full disk.
            DataError: a malformed row of a passage file. On every error an earlier state stays intact.
        """
        if isinstance(sources, str | os.PathLike):
            sources = [sources]
        report = build(sources, Path(to), progress)
        corpus = cls(to)
        corpus.report = report
        return corpus

    def refresh(self, progress: Callable[[Progress], None] | None = None) -> BuildReport:
        """Read what changed in the sources since the last build; quick when nothing did.

        Raises:
            CorpusError, DataError: as `build` does.
        """
        self.report = build(self.info().sources, self.path, progress)
        return self.report

    def search(self, question: str, k: int = 40) -> list[Hit]:
        """The k passages that match best by BM25, best first; fewer when fewer share a word with it.

        Raises:
            UsageError: an empty question, or k below 1.
        """
        if not question.strip():
            raise UsageError("the question is empty; expected some words to search for")
        if k < 1:
            raise UsageError(f"k is {k}, expected 1 or more passages")
        for _ in range(_ATTEMPTS):
            lexical = self._current_lexical()
            found = lexical.search(question, k)
            with self._lock:
                passages = self._catalogue.passages_if(lexical.name, [row for row, _ in found])
            if passages is not None:
                return [Hit(passage, score) for passage, (_, score) in zip(passages, found, strict=True)]
        raise self._restless()

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
                f"{self.path}: no passage with id {missing[0]!r} "
                f"({len(missing)} of {len(keys)} ids are missing); expected ids of this corpus"
            )
        return [found[key] for key in keys]

    def token_cache(self, key: str) -> TokenCache:
        """Token ids of passages, kept with the corpus; see `TokenCache` for what `key` must cover."""
        return TokenCache(self.path, key)

    def info(self) -> CorpusInfo:
        """What the corpus holds now."""
        with self._lock:
            meta, files = self._catalogue.state()
        skipped = [(file.name, file.note) for file in files if file.kind == "skipped"]
        return CorpusInfo(
            path=str(self.path),
            passages=int(meta["passages"]),
            documents=sum(file.kind == "document" for file in files),
            passage_files=sum(file.kind == "passages" for file in files),
            skipped=len(skipped),
            bytes_on_disk=bytes_on_disk(self.path),
            sources=json.loads(meta["sources"]),
            format_version=int(meta.get("format_version", FORMAT_VERSION)),
            generation=int(meta["generation"]),
            fingerprint=meta["fingerprint"],
            skipped_files=skipped,
        )

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
            self._lexical = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Corpus({str(self.path)!r})"

    def _current_lexical(self) -> Lexical:
        for attempt in range(_ATTEMPTS):
            with self._lock:
                name = str(self._catalogue.lexical())
                if self._lexical and self._lexical.name == name:
                    return self._lexical
                try:
                    self._lexical = Lexical(self.path / name)
                    return self._lexical
                except FileNotFoundError:  # replaced since its name was read: ask for the new name
                    if attempt == _ATTEMPTS - 1:
                        raise self._restless() from None
            time.sleep(_PAUSE_SECONDS)
        raise self._restless()

    def _restless(self) -> CorpusError:
        return CorpusError(
            f"{self.path}: the index that the catalogue names is missing; "
            "run `fidkit corpus build` on it again"
        )
