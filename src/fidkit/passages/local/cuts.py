"""How a corpus cuts its documents, and which of them were cut otherwise before.

Files are numbered once, in the order in which they were read: one number says which of them were read before
the way to cut changed. So a build that was interrupted goes on, and nothing stays cut in the former way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fidkit.errors import CorpusError, UsageError
from fidkit.passages.load.cutting import Cutting
from fidkit.passages.local.records import FileRecord

_WORDS, _OVERLAP, _SINCE = "passage_words", "overlap", "cut_since"
NUMBERS = (_WORDS, _OVERLAP, _SINCE)
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
        if cutting == cutting_of(meta):
            return {}
        since = meta.get("next_file", "1")
        return {_WORDS: str(cutting.words), _OVERLAP: str(cutting.overlap), _SINCE: since}


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


def cut_otherwise(meta: dict[str, str], files: Iterable[FileRecord]) -> frozenset[int]:
    """Numbers of the files whose documents were cut before that."""
    since = int(meta.get(_SINCE, 0))
    return frozenset(file.file for file in files if file.kind == "document" and file.file < since)
