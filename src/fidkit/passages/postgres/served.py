"""A corpus in the database that the server searches, where a machine may keep nothing: `?replica=none`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from fidkit.errors import CorpusError
from fidkit.passages.local.corpus import By, Corpus
from fidkit.passages.local.info import CorpusInfo
from fidkit.passages.local.report import BuildProgress, BuildReport
from fidkit.passages.local.vectors import EncoderSource
from fidkit.passages.postgres.address import Address
from fidkit.passages.postgres.database import Database
from fidkit.passages.postgres.log import Log, State
from fidkit.passages.postgres.server_catalogue import ServerCatalogue, ServerWords, has_words
from fidkit.passages.search.alone import ByMeaning, ByWords
from fidkit.passages.search.ways import Explaining
from fidkit.types import Passage

if TYPE_CHECKING:
    from fidkit.passages.filter import Filter
    from fidkit.passages.local.catalogue import Catalogue
    from fidkit.passages.postgres.server_meaning import ServerMeaning
    from fidkit.passages.search.dense import Allowed

_said = logging.getLogger(__name__)


class ServedCorpus(Corpus):
    """A corpus in the database, as `Corpus`, of which this machine keeps nothing but caches.

    It is found by words, and by meaning where the server has vectors. `path` is where caches of it are.
    """

    def __init__(self, address: Address, encoder: EncoderSource | None = None) -> None:
        """Open; `encoder` gives what makes vectors of questions.

        Raises:
            AwayError: the server can't be reached.
            CorpusError: the server refuses, there is no such corpus, or none that the server searches.
        """
        log = Log(Database(address))
        try:
            log.open()
            if not log.database.run(has_words):
                raise CorpusError(
                    f"{address.shown}: the server doesn't search in this database yet; run `fidkit corpus "
                    f"build SOURCE --to '{address.shown}'` once, or leave replica=none out"
                )
        except BaseException:
            log.database.close()
            raise
        self.path, self.report, self.notes = address.directory, None, ()
        self.address, self._log = address, log
        self._lock = threading.Lock()
        self._catalogue = cast("Catalogue", ServerCatalogue(log))
        self._encoder = encoder
        self._words = self._meaning = self._matching = None
        self._said_of_meaning = False

    @property
    def derived(self) -> Path:
        """Where caches of what is read are kept."""
        self.path.mkdir(parents=True, exist_ok=True)
        return self.path

    def refresh(self, progress: Callable[[BuildProgress], None] | None = None) -> BuildReport:
        """Nothing to do: the server is asked each time."""
        self.report = BuildReport(0, 0, 0, 0.0)
        return self.report

    def info(self) -> CorpusInfo:
        """What the database holds now."""
        encoder, vectors = self._log.state().encoder, None
        if encoder is not None:
            from fidkit.passages.postgres.server_meaning import count

            vectors = {
                "encoder": encoder.name, "dimension": encoder.dimension, "passages": count(self._log),
            }  # fmt: skip
        return replace(super().info(), path=self.address.shown, vectors=vectors)

    def close(self) -> None:
        """Let go of the database."""
        self._log.database.close()

    def __iter__(self) -> Iterator[Passage]:
        """All passages, file by file, in the order of the sources."""
        yield from self._catalogue.passages()

    def __repr__(self) -> str:
        return f"Corpus({self.address.shown!r})"

    def _current_search(self, by: By | None, where: Filter | None) -> tuple[Explaining, Allowed | None]:
        with self._lock:
            matched = self._matched(where)
        state, allowed = self._log.state(), None if matched is None else matched.allowed
        meaning = None if by == "words" else self._by_meaning(state, by)
        if by == "meaning" and meaning is not None:
            return ByMeaning(meaning), allowed
        words = ServerWords(self._log, state)
        if meaning is None:
            return ByWords(words), allowed
        from fidkit.passages.search.hybrid import Hybrid, Reciprocal

        return Hybrid(words, meaning, Reciprocal()), allowed  # scores of the server are on no scale of ours

    def _by_meaning(self, state: State, by: By | None) -> ServerMeaning | None:
        """Search by meaning, where that can be; what is in the way is an error where it was asked for.

        Raises:
            CorpusError: it was, and something is.
        """
        if by is None and (self._encoder is None or state.encoder is None):
            return None
        if self._encoder is None:
            raise CorpusError(
                f"{self.address.shown}: can't be searched by meaning: no encoder was given for its vectors; "
                "give one, or search by words"
            )
        from fidkit.passages.postgres.server_meaning import ServerMeaning

        try:
            return ServerMeaning(self._log, state, self._encoder())
        except CorpusError as error:
            if by is not None:
                raise
            if not self._said_of_meaning:
                _said.warning("%s; it is searched by words", error)
            self._said_of_meaning = True
            return None
