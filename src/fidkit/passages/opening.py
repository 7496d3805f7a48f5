"""From whatever somebody points at to an open corpus: a folder, files, a built corpus, or nothing."""

from __future__ import annotations

import logging
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fidkit import assets
from fidkit.errors import CorpusError, UsageError
from fidkit.passages.local.build import Progress
from fidkit.passages.local.corpus import Corpus
from fidkit.passages.local.layout import default_location, is_corpus

Source = str | os.PathLike[str]
Tell = Callable[[Progress], None]

_URL = re.compile(r"[a-z][a-z0-9+.-]+://?", re.IGNORECASE)
_SECONDS_BETWEEN_TRIES = 0.5
_REASONS = 3

BEING_INDEXED = "another process is indexing these documents; this is answered from their state before"

_log = logging.getLogger(__name__)


def open_sources(
    sources: Source | Iterable[Source] | None, progress: Tell | None = None
) -> tuple[Corpus, tuple[str, ...]]:
    """The corpus of the sources: as it is if built, else in the cache, brought up to date.

    While another process indexes the same sources, the state before is opened; where there is none yet, this
    waits until there is.

    Args:
        sources: a folder, a file, a built corpus, or several folders and files; None takes fidkit's own
            documents.
        progress: called now and then while files are read.

    Returns:
        The corpus, and what the person should know about it.

    Raises:
        UsageError: no sources, or none that can be.
        CorpusError, DataError: as `Corpus.build` and `Corpus.open` do.
    """
    if sources is None:
        return _up_to_date([assets.documents()], progress)
    chosen = _listed(sources)
    if len(chosen) == 1 and is_corpus(Path(chosen[0]).expanduser()):
        return Corpus.open(Path(chosen[0]).expanduser()), ()
    corpus, notes = _up_to_date(chosen, progress)
    # Of fidkit's own documents nobody wants to know, and who built a corpus was told then.
    return corpus, (*notes, *left_out(corpus))


def left_out(corpus: Corpus) -> tuple[str, ...]:
    """One line on the files of the sources that were not read, if there are any."""
    info = corpus.info()
    if not info.skipped:
        return ()
    files = info.documents + info.passage_files + info.skipped
    reasons = Counter(reason or "empty" for _, reason in info.skipped_files).most_common()
    shown = [f"{count:,} {reason}" for reason, count in reasons[:_REASONS]]
    if len(reasons) > _REASONS:
        shown.append(f"{sum(count for _, count in reasons[_REASONS:]):,} for other reasons")
    return (
        f"{info.skipped:,} of {files:,} files were left out ({', '.join(shown)}); "
        f"`fidkit corpus info {info.path}` lists them",
    )


def _listed(sources: Any) -> list[Source]:
    if isinstance(sources, Corpus):
        raise UsageError("the documents are an open Corpus; use Answerer(reader, corpus) for one")
    if isinstance(sources, str | os.PathLike):
        sources = [sources]
    if not isinstance(sources, Iterable):
        raise UsageError(f"the documents are {sources!r}; expected a folder, files or a built corpus")
    chosen = list(sources)
    if not chosen:
        raise UsageError("no documents given; expected a folder, files, a built corpus, or None for fidkit's")
    for source in chosen:
        if not isinstance(source, str | os.PathLike) or not os.fspath(source):
            raise UsageError(f"{source!r} is no path; expected a folder, a file or a built corpus")
        if _URL.match(str(source)) and not Path(source).exists():
            raise UsageError(
                f"{source}: documents behind a URL can't be asked yet; give a folder, files or a built corpus"
            )
    return chosen


def _up_to_date(sources: list[Source], progress: Tell | None) -> tuple[Corpus, tuple[str, ...]]:
    where, said = default_location(sources), False
    while True:
        try:
            return Corpus.build(sources, where, progress), ()
        except CorpusError as error:
            # What a held lock says to those who don't wait for it.
            if not isinstance(error.__cause__, BlockingIOError):
                raise
        if (earlier := _last_state(where)) is not None:
            return earlier, (BEING_INDEXED,)
        if not said:
            _log.info("another process is indexing these documents; waiting until it is done")
            said = True
        time.sleep(_SECONDS_BETWEEN_TRIES)


def _last_state(directory: Path) -> Corpus | None:
    """The corpus as it was completed last; None if it never was."""
    try:
        return Corpus.open(directory)
    except CorpusError:
        return None
