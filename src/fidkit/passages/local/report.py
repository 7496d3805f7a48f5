"""What a build says while it runs, and what it did."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How far a build is.

    Attributes:
        stage: `read`, `index` or `vectors`.
        done_bytes, total_bytes: of the source files that have to be read.
        passages: read so far.
        done_files, total_files: that have to be read.
    """

    stage: str
    done_bytes: int
    total_bytes: int
    passages: int
    done_files: int = 0
    total_files: int = 0


@dataclass(frozen=True, slots=True)
class Changes:
    """Files that a build took in or out, by their names in the corpus.

    Attributes:
        added: that have come, or had been left out.
        changed: that were read again.
        removed: that are gone.
        left_out: that are new or had changed, and have no passages.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did; files and passages that were kept are not counted.

    Attributes:
        files_read: that were new or had changed, those included that turned out to be unreadable.
        files_removed: that are gone, or were read again.
        passages_read: of the files read.
        seconds: that it took.
        files_left_out: that are new or had changed, and have no passages; `Corpus.info` has the reasons.
        files_waiting: that are being written just now, where sources are followed.
        changes: names of the files, of a build of a directory; not part of the JSON, as they may be many.
        sources_dropped: that the corpus had before, and of which nothing is in it any more.
    """

    files_read: int
    files_removed: int
    passages_read: int
    seconds: float
    files_left_out: int = 0
    files_waiting: int = 0
    changes: Changes = Changes()
    sources_dropped: tuple[str, ...] = ()

    def longer_by(self, seconds: float) -> BuildReport:
        """The same, with what was done after it."""
        return replace(self, seconds=self.seconds + seconds)

    def to_json(self) -> dict[str, Any]:
        record = asdict(replace(self, changes=Changes()))
        del record["changes"]
        return record
