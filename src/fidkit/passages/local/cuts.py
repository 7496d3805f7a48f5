"""How a corpus cuts its documents, and which of them were read or cut otherwise before.

Files are numbered once, in the order in which they were read: one number says which of them were read before
the way to cut changed, or fidkit's way to read. So a build that was interrupted goes on, and nothing stays as
it was read formerly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fidkit.errors import CorpusError, UsageError
from fidkit.passages.load.cutting import Cutting
from fidkit.passages.local.records import FileRecord

LOADERS = 2
"""How documents are read, as a number that grows whenever a document becomes other passages than before.

A corpus keeps the one that it was built with, and reads its documents again once fidkit has a larger one; not
a smaller one, or two versions that share a corpus would read all of it in turns. Those that were built before
there was one have 1.
"""
_WORDS, _OVERLAP, _LOADERS, _SINCE = "passage_words", "overlap", "loaders", "cut_since"
NUMBERS = (_WORDS, _OVERLAP, _LOADERS, _SINCE)
"""What a catalogue keeps of it."""


@dataclass(frozen=True)
class WantedCutting:
    """What a build is asked for; None is what the corpus has, of a new one the default."""

    words: int | None = None
    overlap: int | None = None

    def after(self, meta: dict[str, str]) -> Cutting:
        """How the corpus cuts from now on.

        Raises:
            UsageError: not so; says what can be.
        """
        has = cutting_of(meta)
        words = has.words if self.words is None else self.words
        return Cutting(words, has.overlap if self.overlap is None else self.overlap)

    def facts(self, meta: dict[str, str]) -> dict[str, str]:
        """What the catalogue is to keep from now on, where that is something else."""
        cutting = self.after(meta)
        if cutting == cutting_of(meta) and not is_read_otherwise(meta):
            return {}
        since = meta.get("next_file", "1")
        now = {_WORDS: cutting.words, _OVERLAP: cutting.overlap, _LOADERS: LOADERS}
        return {name: str(number) for name, number in now.items()} | {_SINCE: since}


def cutting_of(meta: dict[str, str]) -> Cutting:
    """How a corpus cuts, by the facts in its catalogue.

    Raises:
        CorpusError: in a way that can't be.
    """
    default = Cutting()
    try:
        return Cutting(int(meta.get(_WORDS, default.words)), int(meta.get(_OVERLAP, default.overlap)))
    except UsageError as error:
        raise CorpusError(f"its catalogue is damaged ({error}); build the corpus again elsewhere") from error


def is_read_otherwise(meta: dict[str, str]) -> bool:
    """Whether a corpus was built by a version of fidkit that reads documents otherwise, and is older."""
    return int(meta.get(_LOADERS, 1)) < LOADERS


def cut_otherwise(meta: dict[str, str], files: Iterable[FileRecord]) -> frozenset[int]:
    """Numbers of the files whose documents were cut before that."""
    since = int(meta.get(_SINCE, 0))
    return frozenset(file.file for file in files if file.kind == "document" and file.file < since)
