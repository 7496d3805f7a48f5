"""The passages of a run: a corpus, of which only ids are held in RAM.

What is drawn from passages at random needs them by number, and questions name them by id. So every id has a
number, its place in the corpus, and a passage itself is read when it is asked for: about 25 bytes a passage
beside the corpus, whatever its text.
"""

from __future__ import annotations

import logging
import math
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from fidkit.errors import UsageError
from fidkit.passages import Corpus, Passages, default_location, is_corpus
from fidkit.train.distributed.group import Group
from fidkit.types import Passage

Ref = int | Passage
"""A passage by its number in a `PassageTable`, or one that a question brought along."""
Say = Callable[[str], None]
BLOCK = 1000
"""Passages that are read together where all are read."""
logger = logging.getLogger(__name__)


class PassageTable:
    """Passages by number: 0, 1, ... in their own order.

    Args:
        corpus: to read from; None has no passages.
    """

    def __init__(self, corpus: Passages | None) -> None:
        self.corpus = corpus
        self._ids, self._ends, hashes = bytearray(), array("q", [0]), array("q")
        for passage in corpus if corpus is not None else ():
            self._ids += passage.id.encode()
            self._ends.append(len(self._ids))
            hashes.append(hash(passage.id))
        unsorted = np.array(hashes, dtype=np.int64)
        order = np.argsort(unsorted, kind="stable")
        self._numbers, self._hashes = array("q", order.tobytes()), array("q", unsorted[order].tobytes())

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def fingerprint(self) -> str:
        """Of the passages; empty where there are none."""
        return self.corpus.fingerprint if self.corpus is not None else ""

    def id(self, number: int) -> str:
        """The id of a passage."""
        return self._ids[self._ends[number] : self._ends[number + 1]].decode()

    def number(self, identity: str) -> int | None:
        """The number of the passage with this id; None if there is none."""
        wanted = hash(identity)
        place = bisect_left(self._hashes, wanted)
        while place < len(self._hashes) and self._hashes[place] == wanted:
            if self.id(self._numbers[place]) == identity:
                return self._numbers[place]
            place += 1
        return None

    def fetch(self, refs: Sequence[Ref]) -> list[Passage]:
        """The passages themselves, in the order asked; those that are passages already as they are.

        Raises:
            CorpusError: the corpus was built anew and lacks one of them.
        """
        ids = [self.id(ref) for ref in refs if isinstance(ref, int)]
        found = iter(self.corpus.get(ids) if self.corpus is not None and ids else ())
        return [next(found) if isinstance(ref, int) else ref for ref in refs]

    def without(self, titles: set[str]) -> PassageList:
        """All passages but those of pages with these titles."""
        kept = (self.number(p.id) for p in self.corpus or () if p.title not in titles)
        return PassageList(self, array("q", (number for number in kept if number is not None)))


class PassageList(Sequence[Passage]):
    """Some passages of a table, each read when it is asked for.

    Args:
        table: to read from.
        numbers: of its passages.
    """

    def __init__(self, table: PassageTable, numbers: Sequence[int]) -> None:
        self.table, self.numbers = table, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> Passage: ...
    @overload
    def __getitem__(self, place: slice) -> PassageList: ...
    def __getitem__(self, place: int | slice) -> Passage | PassageList:
        if isinstance(place, slice):
            return PassageList(self.table, self.numbers[place])
        return self.table.fetch([self.numbers[place]])[0]

    def __iter__(self) -> Iterator[Passage]:
        for start in range(0, len(self), BLOCK):
            yield from self.table.fetch(self.numbers[start : start + BLOCK])


def open_passages(
    entries: Sequence[Path], group: Group | None = None, say: Say = logger.info
) -> Corpus | None:
    """The corpus of a recipe's `passages`.

    A built corpus is opened as it is. From anything else a corpus is built, or brought up to date, where
    `fidkit ask` would have it too; while another training builds it, this one waits. Processes of a group do
    so one after the other: the first builds, and the others find it done, unless they are on a machine that
    has no such corpus yet.

    Args:
        entries: one built corpus, or sources: files and folders; none gives None.
        group: of processes; all call this.
        say: told what is built, and what was left out.

    Raises:
        UsageError: a corpus among several entries.
        CorpusError, DataError: as `Corpus.build` and `Corpus.open` do.
    """
    if not entries:
        return None
    built = [path for path in entries if is_corpus(path)]
    if built and len(entries) > 1:
        raise UsageError(
            f"{built[0]} is a built corpus; expected it alone, or the sources of one corpus: build one of all"
        )
    if built:
        return Corpus.open(built[0])
    group = group or Group()
    for rank in range(group.size):
        if rank == group.rank:
            _build(entries, say)
        group.wait()
    return Corpus.open(default_location(entries))


def _build(entries: Sequence[Path], say: Say) -> None:
    place, named = default_location(entries), ", ".join(map(str, entries))
    if not is_corpus(place):
        say(f"building a corpus of {named} in {place}, once")

    def waiting() -> None:
        say(f"another process is building {place}; waiting until it is done")

    with Corpus.build(entries, place, wait=math.inf, waiting=waiting) as corpus:
        report, info = corpus.report, corpus.info()
    if report is None or not (report.files_read or report.files_removed):
        return
    said = info.left_out()
    say(f"{place} has {info.passages:,} passages of {named}" + (f"; {said}" if said else ""))
