"""From whatever somebody points at to an open corpus: a folder, files, a built corpus, or nothing."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fidkit import assets
from fidkit.disk import shown
from fidkit.errors import CorpusError, UsageError
from fidkit.passages.engines import engine_of, is_url
from fidkit.passages.load.address import is_in_store
from fidkit.passages.local.corpus import Corpus
from fidkit.passages.local.layout import CorpusBusyError, UnwritableError, default_location, is_corpus
from fidkit.passages.local.report import BuildProgress
from fidkit.passages.local.vectors import EncoderSource
from fidkit.wording import counted

Source = str | os.PathLike[str]
Tell = Callable[[BuildProgress], None]

BEING_INDEXED = "another process is indexing these documents; this is answered from their state before"
UNFINISHED = "{} not read yet: a build was interrupted; run it again to go on"

_log = logging.getLogger(__name__)


def open_sources(
    sources: Source | Iterable[Source] | None,
    progress: Tell | None = None,
    encoder: EncoderSource | None = None,
) -> tuple[Corpus, tuple[str, ...]]:
    """The corpus of the sources: as it is if built, else in the cache, brought up to date.

    While another process indexes the same sources, the state before is opened; where there is none yet, this
    waits until there is.

    Args:
        sources: a folder, a file, a built corpus, its URL, or several folders and files, also in an object
            store (`s3://bucket/prefix`); None takes fidkit's own documents.
        progress: called now and then while files are read.
        encoder: gives what makes vectors; without one there is search by words alone.

    Returns:
        The corpus, and what the person should know about it.

    Raises:
        UsageError: no sources, or none that can be.
        CorpusError, DataError: as `Corpus.build` and `Corpus.open` do.
    """
    if sources is None:
        # Few, and written in the words that they are asked for: an encoder would only take time to open.
        return _up_to_date([assets.documents()], progress, None)
    chosen = _listed(sources)
    if any(is_url(source) and not is_in_store(source) for source in chosen):
        return _behind_url(chosen, progress, encoder)
    if len(chosen) == 1 and is_corpus(Path(chosen[0]).expanduser()):
        corpus = Corpus.open(Path(chosen[0]).expanduser(), encoder)
        fault = corpus.vectors_fault()
        notes: tuple[str, ...] = ()
        if corpus.unread:
            notes = (UNFINISHED.format(counted(corpus.unread, "file is", "files are")),)
        return corpus, (*notes, fault) if fault else notes
    corpus, notes = _up_to_date(chosen, progress, encoder)
    # Of fidkit's own documents nobody wants to know, and who built a corpus was told then.
    return corpus, (*notes, *left_out_of(corpus))


def left_out_of(corpus: Corpus) -> tuple[str, ...]:
    """What a person should know of files that hold nothing to be found."""
    info = corpus.info()
    return tuple(filter(None, (info.left_out(), info.without_text())))


def _listed(sources: Any) -> list[Source]:
    if isinstance(sources, Corpus):
        raise UsageError("the documents are an open Corpus; use Answerer(reader, corpus) for one")
    if isinstance(sources, str | os.PathLike):
        sources = [sources]
    if not isinstance(sources, Iterable):
        raise UsageError(f"the documents are {sources!r}; expected a folder, files or a built corpus")
    chosen = list(sources)
    if not chosen:
        raise UsageError(
            "no documents given; expected a folder, files, a built corpus, or None for fidkit's own docs"
        )
    for source in chosen:
        if not isinstance(source, str | os.PathLike) or not os.fspath(source):
            raise UsageError(f"{source!r} is no path; expected a folder, a file or a built corpus")
    return chosen


def _behind_url(
    chosen: list[Source], progress: Tell | None, encoder: EncoderSource | None
) -> tuple[Corpus, tuple[str, ...]]:
    """A corpus that a server keeps, and what is to be said of it."""
    engines = [engine_of(source) for source in chosen if not is_in_store(source)]
    if len(chosen) > 1:
        raise UsageError("a corpus behind a URL is asked alone; give one URL, or folders and files")
    assert engines[0] is not None
    corpus: Corpus = engines[0].open_corpus(os.fspath(chosen[0]), encoder, progress)
    fault = corpus.vectors_fault()
    return corpus, (*corpus.notes, fault) if fault else corpus.notes


def _up_to_date(
    sources: list[Source], progress: Tell | None, encoder: EncoderSource | None
) -> tuple[Corpus, tuple[str, ...]]:
    where = default_location(sources)
    try:
        with _of_sources(sources, where):
            return Corpus.build(sources, where, progress, encoder=encoder, tidied=False), ()
    except CorpusBusyError:
        if (earlier := _last_state(where, encoder)) is not None:
            return earlier, (BEING_INDEXED,)
    except UnwritableError as error:
        if (earlier := _last_state(where, encoder)) is not None:
            return earlier, (f"{error}; this is answered from their state before",)
        raise
    with _of_sources(sources, where):
        corpus = Corpus.build(
            sources, where, progress, wait=math.inf, waiting=_say_waiting, encoder=encoder, tidied=False
        )
    return corpus, ()


@contextmanager
def _of_sources(sources: list[Source], cache: Path) -> Iterator[None]:
    """What is said of a place that nobody chose says whose index it is."""
    try:
        yield
    except CorpusError as error:
        said, place = str(error), shown(cache)
        if place not in said:
            raise
        whose = f"the index of {', '.join(map(shown, sources))}"
        told = f"{whose}, {said}" if said.startswith(place) else f"{whose}: {said}"
        known = isinstance(error, CorpusBusyError | UnwritableError)
        raise (type(error) if known else CorpusError)(told) from error


def _say_waiting() -> None:
    _log.info("another process is indexing these documents; waiting until it is done")


def _last_state(directory: Path, encoder: EncoderSource | None) -> Corpus | None:
    """The corpus as it was completed last; None if it never was."""
    try:
        return Corpus.open(directory, encoder)
    except CorpusError:
        return None
