"""Searches the current state of a corpus: by words, by meaning, or by both; all documents or some."""

from __future__ import annotations

import logging
import operator
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from fidkit.disk import shown
from fidkit.errors import CorpusError, UsageError
from fidkit.passages.alike import content_of
from fidkit.passages.local.catalogue import Catalogue, vectors_of
from fidkit.passages.local.schema import ChangedError
from fidkit.passages.local.vectors import EncoderSource, with_remedy
from fidkit.passages.search.alone import ByMeaning, ByWords
from fidkit.passages.search.lexical import Lexical
from fidkit.passages.search.ways import Explaining, Mixed, Part
from fidkit.types import Hit, Passage

if TYPE_CHECKING:
    from fidkit.passages.filter import Filter
    from fidkit.passages.local.matching import Matched, Matching
    from fidkit.passages.search.dense import Allowed, Dense

# A build replaces the index under a reader at most once each time it commits, seconds apart at best.
_ATTEMPTS = 5
_PAUSE_SECONDS = 0.05
# Passages that say the same fill places of a search: a fourth more are asked for at first, or so many at
# least, and then so many times as many until enough differ.
_SPARE_SHARE = 4
_LEAST_SPARE = 4
_WIDER = 2

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


class Searching:
    """The searches of a corpus; `Corpus` is the rest of it.

    An index is opened when it is first asked, and again when the catalogue names another.
    """

    def __init__(self, path: Path, catalogue: Catalogue, encoder: EncoderSource | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._catalogue = catalogue
        self._encoder = encoder
        self._forget()

    def _forget(self) -> None:
        """Let go of the indexes."""
        self._words: Lexical | None = None
        self._meaning: tuple[str, Dense | CorpusError] | None = None
        self._matching: Matching | None = None

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
            if not isinstance(question, str):
                raise UsageError(f"the question is {question!r}; expected a text")
            if not question.strip():
                raise UsageError("the question is empty; expected some words to search for")
        if by is not None and by not in get_args(By):
            raise UsageError(f"by is {by!r}; expected one of {', '.join(get_args(By))}, or None")
        _require_filter(where)
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
        return with_remedy(fault, self.path)

    def _different(
        self, search: Explaining, allowed: Allowed | None, questions: Sequence[str], k: int
    ) -> list[list[Explained]] | None:
        """The k best that differ; None when the search is no longer that of the current state."""
        known: dict[int, Passage] = {}
        contents: dict[int, str] = {}
        found: dict[int, list[Explained]] = {}
        wanted, missing = k + max(_LEAST_SPARE, k // _SPARE_SHARE), list(range(len(questions)))
        while missing:
            mixed = search.explain_all([questions[number] for number in missing], wanted, allowed)
            new = list(dict.fromkeys(one.row for of_one in mixed for one in of_one if one.row not in known))
            with self._lock:
                passages = self._catalogue.passages_if(search.name, new)
            if passages is None:
                return None
            known |= zip(new, passages, strict=True)
            contents |= zip(new, map(content_of, passages), strict=True)
            for number, of_one in zip(missing, mixed, strict=True):
                different = _folded(of_one, known, contents)
                if len(different) >= k or len(of_one) < wanted:
                    found[number] = different[:k]
            missing = [number for number in missing if number not in found]
            wanted *= _WIDER
        return [found[number] for number in range(len(questions))]

    def _current_search(self, by: By | None, where: Filter | None) -> tuple[Explaining, Allowed | None]:
        """What to search in, and the rows that may be found; None for all.

        Raises:
            CorpusError: there are none, or the search can't be.
        """
        for attempt in range(_ATTEMPTS):
            try:
                with self._lock, self._catalogue.one_state():
                    lexical, *others = self._catalogue.names()
                    matched = self._matched(where)
                allowed = None if matched is None else matched.allowed
                meaning = None if by == "words" else self._dense(others[0] if others else None, by)
                if by == "meaning" and meaning is not None:
                    return ByMeaning(meaning), allowed
                index = self._lexical(lexical)
                words = index if matched is None else matched.of_words(index)
                if meaning is None:
                    return ByWords(words), allowed
                from fidkit.passages.search.hybrid import Hybrid

                return Hybrid(words, meaning), allowed
            except (FileNotFoundError, ChangedError):  # replaced meanwhile: ask for the new name
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
            raise CorpusError(
                with_remedy(f"{shown(self.path)}: can't be searched by meaning: {what}", self.path)
            )
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
                    _log.warning("%s", with_remedy(self._meaning[1], self.path))
            found = self._meaning[1]
        if isinstance(found, Dense):
            return found
        if by is None:
            return None
        raise CorpusError(with_remedy(found, self.path))

    def _said(self, fault: object) -> str:
        """What is wrong with meaning, and what mends it."""
        return (
            f"{fault}; `fidkit corpus build SOURCE --to {shown(self.path)} --vectors` makes them, until then "
            "search by words"
        )

    def _restless(self) -> CorpusError:
        return CorpusError(
            f"{shown(self.path)}: the index that the catalogue names is missing; "
            f"`fidkit corpus check {shown(self.path)} --repair` writes it anew"
        )


def _folded(
    found: Sequence[Mixed], known: Mapping[int, Passage], contents: Mapping[int, str]
) -> list[Explained]:
    """Hits of which no two say the same: the first counts and has the others beside it."""
    alike: dict[str, list[Mixed]] = {}
    for one in found:
        alike.setdefault(contents[one.row], []).append(one)
    return [
        Explained(
            Hit(known[first.row], first.score), first.words, first.meaning,
            tuple(known[other.row] for other in others),
        )
        for first, *others in alike.values()
    ]  # fmt: skip


def _require_filter(where: object) -> None:
    from fidkit.passages.filter import Filter  # most searches have none

    if where is not None and not isinstance(where, Filter):
        raise UsageError(
            f"where is {where!r}; expected Filter(source=..., kind=...), or None for all documents"
        )


def _whole(k: int) -> int:
    try:
        number = operator.index(k)
    except TypeError:
        raise UsageError(f"k is {k!r}, expected a whole number of passages, 1 or more") from None
    if number < 1:
        raise UsageError(f"k is {number}, expected 1 or more passages")
    return number
