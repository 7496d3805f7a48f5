"""What a collection of passages does for those who read it, wherever it is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from fidkit.passages.places import Where
from fidkit.types import Hit, Passage

if TYPE_CHECKING:
    from fidkit.passages.filter import Filter

NOTHING_FOUND = "no passage shares a word with the question"
"""What to say when a search found nothing."""


@runtime_checkable
class Passages(Protocol):
    """A collection of passages that can be searched: a corpus in a directory, or one kept by a server.

    What is done with passages (answering, their memory, evaluation, training) asks for this and for no path
    of a corpus.
    """

    @property
    def fingerprint(self) -> str:
        """Of ids, titles, texts and offsets of all passages, whatever their order; 32 hexadecimal digits."""
        ...

    @property
    def generation(self) -> int:
        """A number that grows with every change of the passages."""
        ...

    @property
    def derived(self) -> Path:
        """A directory on this machine for what is made of the passages: their token ids, their memory.

        A corpus in a directory has itself. One that is elsewhere has a directory under `fidkit.home`, named
        by what it is.
        """
        ...

    def search(self, question: str, k: int = 40, *, where: Filter | None = None) -> list[Hit]:
        """The k passages that match best, best first, no two that say the same.

        Args:
            question: in plain words.
            k: passages, at most.
            where: the documents whose passages may be found; None for all.

        Raises:
            UsageError: an empty question, or k below 1.
            CorpusError: no document is left by `where`; says what there is.
        """
        ...

    def get(self, ids: Iterable[str | int]) -> list[Passage]:
        """The passages with these ids, in the order asked.

        Raises:
            CorpusError: there is no such passage.
        """
        ...

    def place(self, source: str, span: tuple[int, int] | None = None) -> Where:
        """Where characters of a document came from; nothing in it where that isn't known.

        Args:
            source: `Passage.source`, or what a document is called.
            span: characters of the document; by default those that `source` ends with, or all of it.
        """
        ...

    def __iter__(self) -> Iterator[Passage]:
        """All passages, as they are when the iteration begins."""
        ...

    def __len__(self) -> int:
        """How many there are."""
        ...


class Retriever(Protocol):
    """One way to find passages: lexical (BM25) today, others beside it. It knows row numbers, no texts."""

    @property
    def name(self) -> str:
        """Of the state that is searched: another name, another state."""
        ...

    def search(self, question: str, k: int) -> list[tuple[int, float]]:
        """The k best (row, score), best first, equal scores by row; fewer when fewer match."""
        ...

    def __len__(self) -> int:
        """Number of passages that can be found."""
        ...
