"""The stored memory of the documents, for readers that have use for one: taken along, and missed aloud."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING

from fidkit.answerer import Answerer
from fidkit.errors import ForeignMemoryError, MemoryStoreError
from fidkit.memory import has_memory
from fidkit.memory.layout import memory_directory
from fidkit.passages.protocol import Passages

if TYPE_CHECKING:
    from fidkit.engine.precision import Precision
    from fidkit.memory import MemoryMeta

_log = logging.getLogger(__name__)


def opened(place: str, corpus: Passages, device: str, precision: Precision) -> Answerer:
    """A reader with documents, and with their memory unless that is another reader's: there is one alone."""
    try:
        return Answerer(place, corpus, device, precision)
    except ForeignMemoryError:
        return Answerer(place, corpus, device, precision, stored=False)


def stored(corpus: Passages) -> MemoryMeta | None:
    """What memory is stored with documents now; None where there is none that can be used."""
    if not has_memory(corpus.derived):
        return None
    from fidkit.memory.manifest import Manifest  # most documents have no memory

    try:
        with closing(Manifest.for_reading(memory_directory(corpus.derived))) as manifest:
            return manifest.meta()
    except MemoryStoreError:  # such as one that is deleted just now
        return None


def lacks(answerer: Answerer) -> bool:
    """Whether its reader has use for a memory, and none of its own was stored when it was opened."""
    return bool(answerer.runner.config.memory_layers) and answerer.memory is None


def told(name: str, answerer: Answerer, place: str = "") -> str:
    """What to say of a reader that lacks a memory; empty of others.

    Args:
        name: of the reader, as callers know it.
        answerer: the reader with its documents.
        place: where the reader is; given to whoever may know places of this machine.
    """
    if not lacks(answerer) or answerer.corpus is None:
        return ""
    where, anew = answerer.corpus.derived, ""
    lacking = "no memory of these documents is stored"
    if has_memory(where):
        lacking, anew = "the memory of these documents is another reader's", " --replace"
    note = f"reader {name}: {lacking}, so it encodes passages for each question"
    does = "stores its own instead" if anew else "stores it"
    return f"{note}; `fidkit memory build {where} --reader {place}{anew}` {does}" if place else note


def take_along(answerers: Iterable[Answerer], corpus: Passages) -> None:
    """Give documents that come the memory that is used with those before; where that fails, it is logged."""
    used = [answerer.memory for answerer in answerers if answerer.memory is not None]
    if not used:
        return
    from fidkit.memory.copying import begin_as_copy

    try:
        begin_as_copy(corpus.derived, used[0].directory)
    except MemoryStoreError as error:
        _log.warning("%s", error)
