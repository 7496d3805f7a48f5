"""How much of a corpus its memory covers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from fidkit.memory import MemoryStore
from fidkit.passages import Passages
from fidkit.passages.token_cache import passage_key

_TOGETHER = 4096


@dataclass(frozen=True, slots=True)
class Coverage:
    """Passages of a corpus, and those among them whose memory is stored."""

    passages: int
    covered: int

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.covered / self.passages if self.passages else 1.0


def coverage(corpus: Passages, store: MemoryStore) -> Coverage:
    """Look every passage of the corpus up."""
    passages, covered, remaining = 0, 0, iter(corpus)
    while some := list(islice(remaining, _TOGETHER)):
        located = store.find([passage_key(passage) for passage in some])
        passages += len(some)
        covered += len(some) - len(located.missing)
    return Coverage(passages, covered)
