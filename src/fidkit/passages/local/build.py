"""Builds a corpus, or brings it up to date, reading only files that changed.

A file is unchanged when its path, size and time are, or else when its hash is. `builder` does
what has to be done.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fidkit.cluster import By, require
from fidkit.errors import CorpusError, UsageError
from fidkit.passages.load.address import absolute
from fidkit.passages.load.sources import SourceFile, discover
from fidkit.passages.local.away import mounts_below, mounts_of, require_sources
from fidkit.passages.local.catalogue import Catalogue
from fidkit.passages.local.cuts import WantedCutting, cut_otherwise
from fidkit.passages.local.layout import (
    CorpusBusyError,
    explained_disk,
    is_corpus,
    prepare,
    real_path,
    stored_path,
    writer_lock,
)
from fidkit.passages.local.plan import Plan, make_plan
from fidkit.passages.local.report import BuildProgress, BuildReport
from fidkit.passages.local.vectors import EncoderSource, Wanted, keep_begun

if TYPE_CHECKING:
    from fidkit.passages.load.workers import Limits
    from fidkit.passages.local.builder import Builder
    from fidkit.passages.local.following import Following

_TIDIED_PASSAGES, _TIDIED_SHARE = 200_000, 0.01
"""An index is written anew in a corpus of at most so many passages, or where so large a share was removed."""


def build(
    sources: Iterable[str | os.PathLike[str]],
    directory: Path,
    progress: Callable[[BuildProgress], None] | None = None,
    *,
    wait: float = 0.0,
    waiting: Callable[[], None] | None = None,
    limits: Limits | None = None,
    again: Collection[int] | None = None,
    encoder: EncoderSource | None = None,
    vectors: bool | None = None,
    cutting: WantedCutting | None = None,
    following: Following | None = None,
    by: By = "local",
) -> BuildReport:
    """Make `directory` the corpus of exactly these sources; what was committed stays if this fails.

    Args:
        sources: folders, documents and passage files; `s3://bucket/prefix` for those in a store.
        directory: of the corpus.
        progress: called now and then while files are read.
        wait: seconds to wait for another process that builds.
        waiting: called once when such a wait begins.
        limits: of what reading a file may take, where it is read apart.
        again: numbers of files to be read again although they didn't change, with an index written anew.
        encoder: gives what makes vectors, when there is use for it; None takes those away that don't fit.
        vectors: make them whatever it takes, or have none. By default they are kept up to date, and a corpus
            of at most `MOST_UNASKED` passages gets them.
        cutting: how documents are cut from now on. Where that is another way, all of them are read again.
        following: what to wait for, where sources are followed.
        by: who reads documents: workers on this machine, or `ray`.

    Raises:
        UsageError: no sources, vectors without an encoder, or passages that can't be cut so.
        CorpusBusyError: another process is building, still after `wait` seconds.
        CorpusError: a source is missing, away (`AwayError`) or empty, the disk full, or `directory` is none.
        DataError: a source that is a file isn't what its ending says, or has an id that comes twice.
    """
    began = time.monotonic()
    wanted, cuts = Wanted(encoder, vectors), cutting or WantedCutting()
    roots = _required(sources, directory, cuts, by)
    places = list(map(real_path, roots))
    with ExitStack() as open_until_locked:
        look = _look(directory, places, following, open_until_locked) if again is None else None
        found = look.found if look else discover(places)
        if look and not look.changed(directory, roots, wanted, cuts):
            return BuildReport(0, 0, 0, time.monotonic() - began, files_waiting=look.plan.waiting)
        prepare(directory)
        with (
            writer_lock(directory, wait, waiting) as waited, explained_disk(directory),
            closing(Catalogue.for_writing(directory)) as catalogue,
        ):  # fmt: skip
            if waited or not (look.is_current() if look else not catalogue.meta()):
                found, look = discover(places), None  # who built meanwhile may have seen more of them
            plan = look.plan if look and not cuts.facts(look.meta) else None
            open_until_locked.close()
            building = _builder(catalogue, directory, roots, progress, limits, wanted, cuts, by)
            with _undone(building, catalogue, directory):
                return building.run(found, began, again, following, plan)


def _required(
    sources: Iterable[str | os.PathLike[str]], directory: Path, cuts: WantedCutting, by: By
) -> list[str]:
    """The sources' real paths; what can't be is said before anything is made."""
    require(by)
    roots = _roots(sources)
    if not is_corpus(directory):
        cuts.after({})
    return roots


@contextmanager
def _undone(building: Builder, catalogue: Catalogue, directory: Path) -> Iterator[None]:
    """Of a build that fails, what was committed stays."""
    try:
        yield
    except BaseException:
        building.say_kept()
        # Ask what was committed: an interruption may have come after that.
        with suppress(sqlite3.Error):
            catalogue.rollback()
            keep_begun(directory, catalogue.meta())
        raise
    finally:
        building.reading.close()


def _roots(sources: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Real paths of the sources, as the catalogue keeps them."""
    given = list(sources)
    if any(not os.fspath(source) for source in given):
        raise UsageError("a source is empty; expected the path of a folder or a file, or . for this folder")
    return [stored_path(absolute(source)) for source in given]


def tidy(
    directory: Path,
    encoder: EncoderSource | None = None,
    progress: Callable[[BuildProgress], None] | None = None,
) -> float:
    """Write the index anew where passages that were removed count in its scores; seconds that it took.

    tantivy counts them in its statistics. Without them scores are those of a fresh build. Writing
    takes a second for 70,000 passages. So a corpus of more than 200,000, of which less than 1 % were removed,
    is left as it is; and so it is while another process builds.

    Args:
        directory: of the corpus.
        encoder: as of `reindex`.
        progress: as there.

    Raises:
        CorpusError: no corpus, or the disk is full. What was there before is whole.
    """
    began = time.monotonic()
    catalogue = Catalogue.for_reading(directory)
    try:
        meta = catalogue.meta()
    finally:
        catalogue.close()
    removed, passages = int(meta.get("removed_since_fresh", 0)), int(meta["passages"])
    if removed and (passages <= _TIDIED_PASSAGES or removed >= _TIDIED_SHARE * passages):
        with suppress(CorpusBusyError):
            reindex(directory, encoder, progress)
    return time.monotonic() - began


def reindex(
    directory: Path,
    encoder: EncoderSource | None = None,
    progress: Callable[[BuildProgress], None] | None = None,
) -> None:
    """Write the index of a corpus anew, and its vectors if it has any, from its catalogue alone.

    Args:
        directory: of the corpus.
        encoder: of its vectors; without one they are left out.
        progress: called when the index is written, and while passages are encoded.

    Raises:
        CorpusBusyError: another process is building.
        CorpusError: no corpus, or the disk is full. What was there before is whole.
    """
    with writer_lock(directory), explained_disk(directory):
        catalogue = Catalogue.for_writing(directory)
        try:
            roots = json.loads(catalogue.meta()["sources"])
            _builder(catalogue, directory, roots, progress, None, Wanted(encoder), WantedCutting()).reindex()
        finally:
            catalogue.rollback()
            keep_begun(directory, catalogue.meta())
            catalogue.close()


def _builder(*given: Any) -> Builder:
    from fidkit.passages.local.builder import Builder  # for what changed: most times nothing did

    return Builder(*given)


@dataclass(frozen=True)
class _Look:
    """What there is to do, found out without writing or keeping a writer out.

    Attributes:
        catalogue: that was read, still open.
        number: of its state, from before anything was looked at.
        found: in the sources.
        mounts_differ: whether other file systems are mounted in the sources than it says.
        meta, plan: what it says, and what follows for the files found.
    """

    catalogue: Catalogue
    number: int
    found: list[SourceFile]
    mounts_differ: bool
    meta: dict[str, str]
    plan: Plan

    def changed(self, directory: Path, roots: list[str], wanted: Wanted, cuts: WantedCutting) -> bool:
        """Whether a build has anything to do."""
        meta = self.meta
        changed = self.plan.changes_files() or meta["sources"] != json.dumps(roots)
        changed = changed or self.mounts_differ or meta.get("unread", "0") != "0" or bool(cuts.facts(meta))
        whole = (directory / meta["lexical"] / "meta.json").exists()
        return changed or not whole or not wanted.is_met(directory, meta)

    def is_current(self) -> bool:
        """Whether nobody has built since, asked by the one that holds the lock."""
        return self.catalogue.state_number() == self.number


def _look(
    directory: Path, places: list[str], following: Following | None, is_open: ExitStack
) -> _Look | None:
    """Compare a corpus with its sources; None where it is to be created, or refused in so many words."""
    try:
        catalogue = is_open.enter_context(closing(Catalogue.for_reading(directory)))
    except CorpusError:
        return None
    number, found = catalogue.state_number(), discover(places)
    meta, files = catalogue.state()
    require_sources(places, found, files, mounts_of(meta))
    plan = make_plan(found, files, cut_otherwise(meta, files), following)
    return _Look(catalogue, number, found, mounts_of(meta) != mounts_below(places), meta, plan)
