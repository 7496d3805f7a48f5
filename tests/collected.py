"""Passages without a directory of their own: the protocol, and nothing that a corpus has beside it."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fidkit.errors import CorpusError
from fidkit.passages.filter import Filter
from fidkit.passages.places import Where
from fidkit.types import Hit, Passage


class Collected:
    """`fidkit.passages.Passages` in RAM; found by how many words they share with a question.

    Args:
        texts: of passages 0, 1, ..., all titled `A title`.
        derived: where what is made of them is kept.
    """

    def __init__(self, texts: Sequence[str], derived: Path) -> None:
        self.derived = derived
        self.generation = 0
        self.change(texts)

    def change(self, texts: Sequence[str]) -> None:
        """Have other passages from now on; iterations that began go on as they began."""
        self._passages = [Passage(str(n), "A title", text) for n, text in enumerate(texts)]
        self.generation += 1

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(repr(self._passages).encode()).hexdigest()[:32]

    def search(self, question: str, k: int = 40, *, where: Filter | None = None) -> list[Hit]:
        assert where is None, "texts without documents can't be told apart"
        asked = set(question.lower().split())
        found = [Hit(p, float(len(asked & set(p.text.lower().split())))) for p in self._passages]
        return sorted((hit for hit in found if hit.score), key=lambda hit: -hit.score)[:k]

    def get(self, ids: Iterable[str | int]) -> list[Passage]:
        by_id = {passage.id: passage for passage in self._passages}
        try:
            return [by_id[str(identity)] for identity in ids]
        except KeyError as error:
            raise CorpusError(f"no passage with id {error}") from error

    def place(self, source: str, span: tuple[int, int] | None = None) -> Where:
        return Where()

    def __iter__(self) -> Iterator[Passage]:
        return iter(self._passages)

    def __len__(self) -> int:
        return len(self._passages)
