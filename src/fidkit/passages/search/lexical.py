"""BM25 over titles and texts, by tantivy. It knows row numbers only; texts are the catalogue's.

Title and text are one field, cut at everything that is no letter or digit, lowercased, stemmed as
English. What is written without spaces between words is a second field, of pieces that overlap (`grams`).
Questions are analysed the same way and become an OR of terms: no query language, so `:`, `"` or `(` in a
question mean nothing. The words that make a question of it are left out: they are rare enough in passages
to weigh much, and say nothing about the answer.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import tantivy

from fidkit.disk import WriteError, shown
from fidkit.errors import CorpusError, is_panic
from fidkit.passages.local.layout import sync_directory
from fidkit.passages.search.grams import asked_of, grams_of, parted
from fidkit.passages.search.lexical_check import damaged_files
from fidkit.paths import foreign_entry, is_plain_name

_ANALYSER = "fidkit_english"
# fmt: off
_NOT_SEARCHED = [
    "who", "whom", "whose", "what", "which", "when", "where", "why", "how",
    "do", "does", "did", "is", "are", "was", "were", "be", "been", "being",
    "has", "have", "had", "can", "could", "will", "would",
    "the", "of", "and", "a", "an", "in", "to",
]
# fmt: on
# Equal scores come in the order of segments, which differs from build to build. Some more are asked for
# and sorted by row, so that the same content gives the same hits; many more where those score equal, too, as
# lines of one form do.
_SPARE, _MORE, _MOST_EQUAL = 16, 8, 10_000
_LONGEST_WORD = 40
_HEAP_BYTES = 200_000_000
_THREADS = 2
_COMPARED_BYTES = 16_000_000
_LISTED = ".managed.json"
_COPIED = ("meta.json", _LISTED)


class Lexical:
    """A finished index, opened for searching; safe to use from several threads."""

    def __init__(self, directory: Path) -> None:
        """Open.

        Raises:
            FileNotFoundError: there is no index; a build may have replaced it just now.
            CorpusError: it is damaged.
        """
        if not (directory / "meta.json").exists():
            raise FileNotFoundError(directory)
        require_plain(directory)
        _require_as_written(directory)
        self.name, self._directory = directory.name, directory
        self._elsewhere: TemporaryDirectory[str] | None = None
        with _readable(directory):
            index = self._open(directory)
            # An index of an older version has words alone, until its corpus is built again.
            self._has_grams = index.schema == _SCHEMA
            self._searcher = index.searcher()

    def search(self, question: str, k: int, among: tantivy.Query | None = None) -> list[tuple[int, float]]:
        """The k best (row, BM25 score), best first, equal scores by row; fewer when fewer match.

        Args:
            question: in plain words.
            k: hits, at most.
            among: what a hit has to match as well, without a part in its score.

        Raises:
            CorpusError: the index isn't one of ours.
        """
        # A command line in another encoding may hand over half characters, which tantivy refuses.
        question = question.encode("utf-8", "replace").decode("utf-8")
        clauses = [
            (tantivy.Occur.Should, tantivy.Query.term_query(_SCHEMA, field, term, index_option="freq"))
            for field, term in self._terms(question)
        ]
        query = tantivy.Query.boolean_query(clauses)
        if among is not None:
            must = tantivy.Occur.Must
            query = tantivy.Query.boolean_query(
                [(must, query), (must, tantivy.Query.const_score_query(among, 0.0))]
            )
        with _readable(self._directory):
            found = self._best(query, min(k, len(self)))
            rows = self._searcher.fast_field_values("row", [address for _, address in found])
        hits = [
            (int(row), float(score)) for row, (score, _) in zip(rows, found, strict=True) if row is not None
        ]
        return sorted(hits, key=lambda hit: (-hit[1], hit[0]))[:k]

    def _best(self, query: tantivy.Query, k: int) -> list[tuple[float, tantivy.DocAddress]]:
        """At least the k best, and all that score as the last of them, unless these are very many."""
        # tantivy sets a place aside for each hit that is asked for, and ends the process without the room.
        limit = k + _SPARE
        while True:
            found = self._searcher.search(query, limit=limit, count=False).hits
            if len(found) < limit or found[-1][0] < found[k - 1][0] or limit > _MOST_EQUAL:
                return found
            limit *= _MORE

    def rows(self) -> list[int]:
        """The row of every passage, in no order.

        Raises:
            CorpusError: the index isn't one of ours.
        """
        with _readable(self._directory):
            found = self._searcher.search(
                tantivy.Query.all_query(), limit=max(1, len(self)), count=False
            ).hits
            rows = self._searcher.fast_field_values("row", [address for _, address in found])
        return [int(row) for row in rows if row is not None]

    def __len__(self) -> int:
        """Number of passages."""
        return int(self._searcher.num_docs)

    def _terms(self, question: str) -> dict[tuple[str, str], None]:
        """What of a question is searched for, and in which field."""
        words, runs = parted(question)
        # In the other field a run stands whole, or cut where its script has marks: nothing is found by it.
        for run in runs if self._has_grams else ():
            words = words.replace(f" {run} ", " ", 1)
        grams = asked_of(runs) if self._has_grams else []
        terms = _FOR_QUESTIONS.analyze(words) or ([] if grams else _FOR_TEXTS.analyze(words))
        return dict.fromkeys([*(("body", term) for term in terms), *(("grams", gram) for gram in grams)])

    def _open(self, directory: Path) -> tantivy.Index:
        try:
            return _opened(directory)
        except ValueError as error:
            if "Lockfile" not in str(error):
                raise
        # tantivy writes a lock file to open an index. In a read-only directory, open links to its files.
        self._elsewhere = TemporaryDirectory(prefix="fidkit-")
        _link(directory, Path(self._elsewhere.name), os.symlink)
        return _opened(Path(self._elsewhere.name))


class OfFiles:
    """An index in which only passages of some files are found, scored as among all.

    Attributes:
        name: of the index.
    """

    def __init__(self, lexical: Lexical, files: Sequence[int]) -> None:
        self.name, self._lexical = lexical.name, lexical
        self._among = tantivy.Query.term_set_query(_SCHEMA, "file", list(files))

    def search(self, question: str, k: int) -> list[tuple[int, float]]:
        """See `Lexical.search`."""
        return self._lexical.search(question, k, self._among)

    def __len__(self) -> int:
        """As many as may be found, at most."""
        return len(self._lexical)


class LexicalWriter:
    """Writes a new index directory, from nothing or as the successor of another.

    A successor shares the other's segment files by hard link: tantivy never changes a segment in place.
    """

    def __init__(self, directory: Path, base: Path | None = None) -> None:
        self.name, self._directory = directory.name, directory
        directory.mkdir()
        if base is not None:
            require_plain(base)
            _link(base, directory, _hard_link)
        with _explained():
            self._writer = _index(directory).writer(_HEAP_BYTES, _THREADS)

    def add(self, rows: Iterable[tuple[int, int, str, str]]) -> None:
        """Add (row, file, title, text).

        Raises:
            WriteError: as everywhere here, the index can't be written.
        """
        for row, file, title, text in rows:
            body, runs = parted(f"{title}\n{text}")
            grams = {"grams": " ".join(gram for run in runs for gram in grams_of(run))} if runs else {}
            document = tantivy.Document(row=row, file=file, body=body, **grams)
            with _explained():
                self._writer.add_document(document)

    def remove_file(self, file: int) -> None:
        """Remove what was added for this file."""
        with _explained():
            self._writer.delete_documents_by_term("file", file)

    def finish(self) -> None:
        """Write out, merge and force to the disk."""
        with _explained():
            self._writer.commit()
            self._writer.wait_merging_threads()
        sync_directory(self._directory)

    def abandon(self) -> None:
        """Stop. What was written is for `sweep` to delete."""
        with suppress(Exception):  # the writer may be dead already: tantivy's threads end on a full disk
            self._writer.rollback()


def require_plain(directory: Path) -> None:
    """Refuse an index that isn't files alone, or that has tantivy delete others.

    tantivy makes its locks through links, and deletes what the list of its files names besides those in use.

    Raises:
        CorpusError: says what is wrong.
    """
    try:
        foreign = directory.name if directory.is_symlink() else foreign_entry(directory)
        if foreign is not None:
            raise _damaged(directory, f"{foreign} is a link or no file")
        listed = directory / _LISTED
        names = json.loads(listed.read_bytes()) if listed.exists() else []
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(directory, error) from error
    if not isinstance(names, list) or not all(map(is_plain_name, names)):
        raise _damaged(directory, f"{_LISTED} names files elsewhere")


def _require_as_written(directory: Path) -> None:
    """Compare an index with its sums, unless it is so large that opening it would take noticeably longer.

    tantivy would give wrong hits, or end a search with lines of its own on stderr.

    Raises:
        FileNotFoundError: it is gone.
        CorpusError: says which file is another than was written.
    """
    if sum(entry.stat().st_size for entry in directory.iterdir()) > _COMPARED_BYTES:
        return
    for name, reason in damaged_files(directory):
        if not directory.exists():
            raise FileNotFoundError(directory)
        raise _damaged(directory, f"{name}: {reason}")


@contextmanager
def _readable(directory: Path) -> Iterator[None]:
    """What tantivy makes of a foreign index is a CorpusError; of one that is gone, FileNotFoundError."""
    try:
        yield
    except ValueError as error:
        if not directory.exists():
            raise FileNotFoundError(directory) from error
        raise _damaged(directory, error) from error
    except BaseException as error:
        if not is_panic(error):
            raise
        raise _damaged(directory, error) from error


def _damaged(directory: Path, error: object) -> CorpusError:
    corpus = shown(directory.parent)
    return CorpusError(
        f"{shown(directory)}: the index can't be read ({error}); `fidkit corpus check {corpus} --repair` "
        "writes it anew"
    )


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    # Frequencies without positions: nothing here searches for phrases.
    builder.add_text_field("body", tokenizer_name=_ANALYSER, index_option="freq")
    builder.add_integer_field("row", fast=True)
    builder.add_integer_field("file", indexed=True)
    # Behind the others, so that these are the same fields in an index of an older version.
    builder.add_text_field("grams", tokenizer_name="whitespace", index_option="freq")
    return builder.build()


def _analyser(for_questions: bool) -> tantivy.TextAnalyzer:
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    builder = builder.filter(tantivy.Filter.remove_long(_LONGEST_WORD)).filter(tantivy.Filter.lowercase())
    builder = builder.filter(tantivy.Filter.ascii_fold())
    if for_questions:
        builder = builder.filter(tantivy.Filter.custom_stopword(_NOT_SEARCHED))
    return builder.filter(tantivy.Filter.stemmer("english")).build()


_SCHEMA = _schema()
_FOR_TEXTS = _analyser(for_questions=False)
_FOR_QUESTIONS = _analyser(for_questions=True)


def _index(directory: Path) -> tantivy.Index:
    with _spelled(directory) as path:
        index = tantivy.Index(_SCHEMA, path)
    index.register_tokenizer(_ANALYSER, _FOR_TEXTS)
    return index


def _opened(directory: Path) -> tantivy.Index:
    with _spelled(directory) as path:
        index = tantivy.Index.open(path)
    # The catalogue says when to change over; tantivy need not watch the directory.
    index.config_reader(reload_policy="manual")
    return index


@contextmanager
def _spelled(directory: Path) -> Iterator[str]:
    """The path for tantivy, which takes only what is UTF-8. It looks the place up once and keeps that."""
    try:
        str(directory).encode()
        yield str(directory)
    except UnicodeEncodeError:
        with TemporaryDirectory(prefix="fidkit-") as elsewhere:
            link = Path(elsewhere) / "index"
            link.symlink_to(directory.resolve())
            yield str(link)


@contextmanager
def _explained() -> Iterator[None]:
    """Take what tantivy says: ValueError for everything, also where it says only that its threads ended."""
    try:
        yield
    except ValueError as error:
        raise WriteError(str(error)) from error


def _link(source: Path, target: Path, link: Callable[[Path, Path], None]) -> None:
    for entry in source.iterdir():
        if entry.name in _COPIED:
            shutil.copyfile(entry, target / entry.name)
        elif not entry.name.endswith(".lock"):
            link(entry.resolve(), target / entry.name)


def _hard_link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
