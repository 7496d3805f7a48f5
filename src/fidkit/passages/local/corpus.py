"""A corpus: passages of documents and passage files, searchable, kept in one directory."""

from __future__ import annotations

import hashlib
import json
import logging
import operator
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast, get_args

from fidkit.disk import shown
from fidkit.errors import CorpusError, FidkitError, UsageError
from fidkit.passages.alike import content_of
from fidkit.passages.engines import engine_of
from fidkit.passages.load.document import Block
from fidkit.passages.load.packed import blocks_of, boxes_in, joined_in_lines, places_in, text_of
from fidkit.passages.local.build import build
from fidkit.passages.local.catalogue import Catalogue, FormerFormat, vectors_of
from fidkit.passages.local.cuts import WantedCutting, cutting_of
from fidkit.passages.local.info import CorpusInfo, kinds_of
from fidkit.passages.local.layout import (
    FORMAT_VERSION,
    CorpusBusyError,
    bytes_on_disk,
    real_path,
    sizes_on_disk,
)
from fidkit.passages.local.records import DocumentRecord, FileRecord
from fidkit.passages.local.report import BuildProgress, BuildReport
from fidkit.passages.local.vectors import EncoderSource
from fidkit.passages.places import Where, split
from fidkit.passages.search.alone import ByMeaning, ByWords
from fidkit.passages.search.lexical import Lexical
from fidkit.passages.search.ways import Explaining, Mixed, Part
from fidkit.types import Hit, Passage

if TYPE_CHECKING:
    from fidkit.cluster import By as ReadBy
    from fidkit.passages.filter import Filter
    from fidkit.passages.local.matching import Matched, Matching
    from fidkit.passages.search.dense import Allowed, Dense

# A build replaces the index under a reader at most once each time it commits, seconds apart at best.
_ATTEMPTS = 5
_PAUSE_SECONDS = 0.05
# Passages that say the same fill places of a search: so many times as many are asked for until enough differ.
_WIDER = 4
_ALL = 1 << 60  # beyond the end of any document
_COMPARED = 10_000  # names with one that isn't there

By = Literal["words", "meaning", "both"]
"""What passages are found by."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Explained:
    """A hit, and why it was found.

    Attributes:
        hit: with the score that it was ranked by.
        words, meaning: rank and score by either; None where it wasn't searched for so.
        alike: other passages that were found and say the same (`fidkit.passages.alike`), the best first.
    """

    hit: Hit
    words: Part | None
    meaning: Part | None
    alike: tuple[Passage, ...] = ()


class Corpus:
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
        self.path = Path(directory)
        self.notes: tuple[str, ...] = ()
        self.report: BuildReport | None = None
        self._lock = threading.Lock()
        self._catalogue = _opened(self.path)
        self._encoder = encoder
        self._words: Lexical | None = None
        self._meaning: tuple[str, Dense | CorpusError] | None = None
        self._matching: Matching | None = None

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
    ) -> Corpus:
        """Build the corpus `to` from files and folders, or bring it up to date, and open it.

        Only new and changed files are read; passages of files that are gone go too. `report` of the
        result says what was done.

        Args:
            sources: documents, passage files (`fidkit.passages.load.table` lists them) and folders of them.
                `s3://bucket/prefix` names those in an object store. In a folder, a file that isn't what its
                ending says, or has ids of passages that were read before, is left out; `info` says so.
            to: directory of the corpus: new, empty or a corpus; or a URL, as of `open`.
            progress: called now and then while files are read.
            wait: seconds to wait where another process is building this corpus; `math.inf` for as long as
                it takes.
            waiting: called once when such a wait begins.
            encoder: gives what makes vectors, such as `fidkit.engine.meaning.minilm`; without one there are
                none.
            vectors: make them whatever it takes, or have none. By default a corpus that has vectors keeps
                them up to date, and one of at most 2,000 passages gets them.
            passage_words: of a passage, about, 10 to 1,000. By default what the corpus has, of a new one 100.
                Where this or `overlap` changes, all documents are read again.
            overlap: words, at most, that a passage repeats from the one before, as whole sentences; fewer
                than it has. By default what the corpus has, of a new one 0.
            by: who reads documents: workers on this machine, or `ray`, a cluster.

        Raises:
            UsageError: no sources, vectors without an encoder, or passages that can't be cut so.
            CorpusBusyError: another process is building it, still after `wait`.
            CorpusError: a missing source, nothing to read, a full disk.
            DataError: a source that is a file isn't what its ending says, or has an id that comes twice. On
                every error the last state that was committed is whole.
        """
        if isinstance(sources, str | os.PathLike):
            sources = [sources]
        cutting = WantedCutting(passage_words, overlap)
        engine = engine_of(to)
        if engine is not None:
            made = engine.build_corpus(sources, os.fspath(to), progress, encoder, vectors, cutting, by)
            return cast(Corpus, made)
        report = build(
            sources, Path(to), progress, wait=wait, waiting=waiting, encoder=encoder, vectors=vectors,
            cutting=cutting, by=by,
        )  # fmt: skip
        corpus = cls(to, encoder)
        corpus.report = report
        return corpus

    def refresh(self, progress: Callable[[BuildProgress], None] | None = None) -> BuildReport:
        """Read what changed in the sources since the last build; quick when nothing did.

        Raises:
            CorpusError, DataError: as `build` does.
        """
        with self._lock:
            sources = json.loads(self._catalogue.meta()["sources"])
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

    def search(
        self, question: str, k: int = 40, by: By | None = None, *, where: Filter | None = None
    ) -> list[Hit]:
        """The k passages that match best, best first; by words fewer when fewer share a word with it.

        Of passages that say the same (`fidkit.passages.alike`) the best one counts; `explain` names the
        others.

        Args:
            question: in plain words.
            k: passages, at most.
            by: `words` (BM25), `meaning` or `both`; by default both where there are vectors and their
                encoder, else words. Vectors that can't be used are warned of then.
            where: the documents whose passages may be found; None for all. What else is there changes no
                score.

        Raises:
            UsageError: an empty question, k below 1, or another way to search.
            CorpusError: meaning is asked for, and there are no vectors that can be used; or no document is
                left by `where`: says what there is.
        """
        return [found.hit for found in self.explain(question, k, by, where=where)]

    def search_all(
        self, questions: Sequence[str], k: int = 40, by: By | None = None, *, where: Filter | None = None
    ) -> list[list[Hit]]:
        """`search` for several questions, in the state of one moment; by meaning with one scan for all."""
        found = self.explain_all(questions, k, by, where=where)
        return [[one.hit for one in of_one] for of_one in found]

    def explain(
        self, question: str, k: int = 40, by: By | None = None, *, where: Filter | None = None
    ) -> list[Explained]:
        """What `search` finds, with ranks and scores by words and by meaning."""
        return self.explain_all([question], k, by, where=where)[0]

    def explain_all(
        self, questions: Sequence[str], k: int = 40, by: By | None = None, *, where: Filter | None = None
    ) -> list[list[Explained]]:
        """`explain` for several questions, in the state of one moment."""
        if isinstance(questions, str):
            raise UsageError("the questions are one string; expected a list of them, or use `search`")
        for question in questions:
            if not question.strip():
                raise UsageError("the question is empty; expected some words to search for")
        if by is not None and by not in get_args(By):
            raise UsageError(f"by is {by!r}; expected one of {', '.join(get_args(By))}, or None")
        k = _whole(k)
        for _ in range(_ATTEMPTS):
            found = self._different(*self._current_search(by, where), questions, k)
            if found is not None:
                return found
        raise self._restless()

    def vectors_fault(self) -> str:
        """Why this corpus is searched by words although it has vectors; empty where it isn't."""
        if self._encoder is None:
            return ""
        with self._lock:
            name = vectors_of(self._catalogue.meta())
        if name is None or self._dense(name, quiet=True) is not None:
            return ""
        _, fault = self._meaning or ("", "")
        return self._said(fault)

    def _different(
        self, search: Explaining, allowed: Allowed | None, questions: Sequence[str], k: int
    ) -> list[list[Explained]] | None:
        """The k best that differ; None when the search is no longer that of the current state."""
        known: dict[int, Passage] = {}
        found: dict[int, list[Explained]] = {}
        wanted, missing = k, list(range(len(questions)))
        while missing:
            mixed = search.explain_all([questions[number] for number in missing], wanted, allowed)
            new = list(dict.fromkeys(one.row for of_one in mixed for one in of_one if one.row not in known))
            with self._lock:
                passages = self._catalogue.passages_if(search.name, new)
            if passages is None:
                return None
            known |= zip(new, passages, strict=True)
            for number, of_one in zip(missing, mixed, strict=True):
                different = _folded(of_one, known)
                if len(different) >= k or len(of_one) < wanted:
                    found[number] = different[:k]
            missing = [number for number in missing if number not in found]
            wanted *= _WIDER
        return [found[number] for number in range(len(questions))]

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
        name, (start, end) = source, span or (0, _ALL)
        with self._lock:
            document = self._catalogue.document(name)
            if document is None:
                name, behind = split(source)
                start, end = span or behind or (0, _ALL)
                document = self._catalogue.document(name)
            if document is None:
                return Where()
            packed = [self._catalogue.blob(document.document, column) for column in ("map", "boxes")]
        try:
            places = places_in(packed[0], start, end) if packed[0] else ()
            boxes = tuple(joined_in_lines(boxes_in(packed[1], start, end)))
        except ValueError as error:
            raise self._damaged_document(name, error) from error
        return Where(start, end, places, boxes)

    def document(self, source: str) -> StoredDocument:
        """A document as it was read.

        Args:
            source: what it is called: `notes.md`, or `archive.zip/notes.md`.

        Raises:
            CorpusError: there is none; says which are called alike.
        """
        with self._lock:
            found = self._catalogue.document(source)
            if found is None:
                raise CorpusError(self._no_document(source))
            packed_map, text = (self._catalogue.blob(found.document, column) for column in ("map", "text"))
        try:
            return StoredDocument(found, text_of(text), blocks_of(packed_map))
        except ValueError as error:
            raise self._damaged_document(source, error) from error

    def _no_document(self, source: str) -> str:
        from difflib import get_close_matches

        known = self._catalogue.sources(_COMPARED)
        tail = source.rsplit("/", 1)[-1].casefold()
        alike = [name for name in known if name.rsplit("/", 1)[-1].casefold() == tail]
        alike = alike or get_close_matches(source, known, 3, 0.5)
        expected = ", ".join(alike[:3] or known[:3])
        said = f"did you mean {expected}?" if alike else f"expected one such as {expected}"
        return f"{shown(self.path)}: no document is called {source!r}; {said if known else 'there are none'}"

    def _damaged_document(self, source: str, error: ValueError) -> CorpusError:
        return CorpusError(
            f"{shown(self.path)}: what is kept of {source} is damaged ({error}); run "
            f"`fidkit corpus check {shown(self.path)} --repair`"
        )

    def info(self) -> CorpusInfo:
        """What the corpus holds now."""
        with self._lock, self._catalogue.one_state():
            meta, files = self._catalogue.meta(), self._catalogue.files()
            documents = self._catalogue.count("documents")
            noted = self._catalogue.documents_with_notes()
        skipped = [(file.name, file.note) for file in files if file.kind == "skipped"]
        vectors, fault = self._about_vectors(vectors_of(meta))
        return CorpusInfo(
            path=shown(self.path),
            passages=int(meta["passages"]),
            files=sum(file.kind != "skipped" for file in files),
            documents=documents,
            unread=int(meta.get("unread", 0)),
            passage_files=sum(file.kind == "passages" for file in files),
            skipped=len(skipped),
            bytes_on_disk=bytes_on_disk(self.path),
            sizes=sizes_on_disk(self.path),
            vectors=vectors,
            vectors_fault=fault,
            sources=[shown(source) for source in self._sources(meta)],
            format_version=int(meta.get("format_version", FORMAT_VERSION)),
            passage_words=cutting_of(meta).words,
            overlap=cutting_of(meta).overlap,
            generation=int(meta["generation"]),
            fingerprint=meta["fingerprint"],
            kinds=kinds_of(files),
            skipped_files=skipped,
            notes=[(document.source, note) for document in noted for note in document.notes],
        )

    def files(self) -> list[FileRecord]:
        """The files that were found, read or left out, as they were then."""
        with self._lock:
            return self._catalogue.files()

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

    def _about_vectors(self, name: str | None) -> tuple[dict[str, Any] | None, str]:
        """Facts of the vectors, and why they can't be read."""
        if name is None:
            return None, ""
        from fidkit.passages.search.vectors import Vectors

        try:
            found = Vectors(self.path / name)
        except (FileNotFoundError, CorpusError) as error:
            missing = isinstance(error, FileNotFoundError)
            return None, self._said("its vectors are missing" if missing else error)
        return {"encoder": found.encoder, "dimension": found.dimension, "passages": len(found)}, ""

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
            self._words = self._meaning = self._matching = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Corpus({str(self.path)!r})"

    def _current_search(self, by: By | None, where: Filter | None) -> tuple[Explaining, Allowed | None]:
        """What to search in, and the rows that may be found; None for all.

        Raises:
            CorpusError: there are none, or the search can't be.
        """
        for attempt in range(_ATTEMPTS):
            with self._lock, self._catalogue.one_state():
                lexical, *others = self._catalogue.names()
                matched = self._matched(where)
            allowed = None if matched is None else matched.allowed
            try:
                meaning = None if by == "words" else self._dense(others[0] if others else None, by)
                if by == "meaning" and meaning is not None:
                    return ByMeaning(meaning), allowed
                index = self._lexical(lexical)
                words = index if matched is None else matched.of_words(index)
                if meaning is None:
                    return ByWords(words), allowed
                from fidkit.passages.search.hybrid import Hybrid

                return Hybrid(words, meaning), allowed
            except FileNotFoundError:  # replaced since its name was read: ask for the new name
                if attempt == _ATTEMPTS - 1:
                    raise self._restless() from None
            time.sleep(_PAUSE_SECONDS)
        raise self._restless()

    def _matched(self, where: Filter | None) -> Matched | None:
        """With the lock, in a state of the catalogue."""
        if where is None:
            return None
        if self._matching is None:
            from fidkit.passages.local.matching import Matching  # most searches have no filter

            self._matching = Matching()
        return self._matching.matched(self._catalogue, where)

    def _lexical(self, name: str) -> Lexical:
        with self._lock:
            if self._words is None or self._words.name != name:
                self._words = Lexical(self.path / name)
            return self._words

    def _dense(self, name: str | None, by: By | None = None, *, quiet: bool = False) -> Dense | None:
        """Search by meaning, where that can be; what is in the way is an error where it was asked for.

        Raises:
            CorpusError: meaning is asked for `by` name, and there are no vectors that can be used.
            FileNotFoundError: they were replaced just now.
        """
        if name is None or self._encoder is None:
            if by is None:
                return None
            what = "it has no vectors" if name is None else "no encoder was given for its vectors"
            raise CorpusError(self._said(f"{shown(self.path)}: can't be searched by meaning: {what}"))
        from fidkit.passages.search.dense import Dense

        with self._lock:
            if self._meaning is None or self._meaning[0] != name:
                try:
                    self._meaning = name, Dense(self.path / name, self._encoder())
                except FileNotFoundError:
                    if vectors_of(self._catalogue.meta()) != name:
                        raise
                    self._meaning = name, CorpusError(f"{shown(self.path / name)}: the vectors are missing")
                except CorpusError as error:
                    self._meaning = name, error
                if isinstance(self._meaning[1], CorpusError) and by is None and not quiet:
                    _log.warning("%s", self._said(self._meaning[1]))
            found = self._meaning[1]
        if isinstance(found, Dense):
            return found
        if by is None:
            return None
        raise CorpusError(self._said(found))

    def _said(self, fault: object) -> str:
        """What is wrong with meaning, and what mends it."""
        return (
            f"{fault}; `fidkit corpus build SOURCE --to {shown(self.path)} --vectors` makes them, until then "
            "search by words"
        )

    def _sources(self, meta: dict[str, str]) -> list[str]:
        with suppress(ValueError, RecursionError):
            sources = json.loads(meta["sources"])
            if isinstance(sources, list) and all(isinstance(source, str) for source in sources):
                return sources
        raise CorpusError(
            f"{self.path}: its catalogue doesn't say what it was built from; run `fidkit corpus build SOURCE "
            f"--to {self.path}`"
        )

    def _restless(self) -> CorpusError:
        return CorpusError(
            f"{shown(self.path)}: the index that the catalogue names is missing; "
            f"`fidkit corpus check {shown(self.path)} --repair` writes it anew"
        )


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as a corpus keeps it: what is known of it, its text, and its blocks."""

    record: DocumentRecord
    text: str
    blocks: tuple[Block, ...]


def _folded(found: Sequence[Mixed], known: dict[int, Passage]) -> list[Explained]:
    """Hits of which no two say the same: the first counts and has the others beside it."""
    alike: dict[str, list[Mixed]] = {}
    for one in found:
        alike.setdefault(content_of(known[one.row]), []).append(one)
    return [
        Explained(
            Hit(known[first.row], first.score), first.words, first.meaning,
            tuple(known[other.row] for other in others),
        )
        for first, *others in alike.values()
    ]  # fmt: skip


def _opened(directory: Path) -> Catalogue:
    """The catalogue; one of an older format is built again from its sources."""
    try:
        return Catalogue.for_reading(directory)
    except FormerFormat as former:
        _log.info(
            "%s has format version %s and is built again from its sources, in version %s",
            shown(directory), former.version, FORMAT_VERSION,
        )  # fmt: skip
        try:
            build([real_path(source) for source in json.loads(former.sources)], directory)
        except CorpusBusyError:
            raise
        except (FidkitError, ValueError, TypeError) as error:
            raise CorpusError(f"{former}; it can't be built again as it is: {error}") from error
        return Catalogue.for_reading(directory)


def _whole(k: int) -> int:
    try:
        number = operator.index(k)
    except TypeError:
        raise UsageError(f"k is {k!r}, expected a whole number of passages, 1 or more") from None
    if number < 1:
        raise UsageError(f"k is {number}, expected 1 or more passages")
    return number
