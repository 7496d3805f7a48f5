"""The stored memory of the documents, for readers that have use for one: taken along, and missed aloud."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from fidkit.answerer import Answerer
from fidkit.errors import MemoryStoreError
from fidkit.passages.protocol import Passages

_log = logging.getLogger(__name__)


def lacks(answerer: Answerer) -> bool:
    """Whether its reader has use for a memory, and none was stored when it was opened."""
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
    note = f"reader {name}: no memory of these documents is stored, so it encodes passages for each question"
    where = answerer.corpus.derived
    return f"{note}; `fidkit memory build {where} --reader {place}` stores it" if place else note


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
