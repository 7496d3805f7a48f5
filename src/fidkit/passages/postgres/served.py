"""A corpus in the database that the server searches, where a machine may keep nothing: `?replica=none`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from fidkit.errors import CorpusError
from fidkit.passages.local.corpus import By, Corpus
from fidkit.passages.local.info import CorpusInfo
from fidkit.passages.local.report import BuildProgress, BuildReport
from fidkit.passages.postgres.address import Address
from fidkit.passages.postgres.database import Database
from fidkit.passages.postgres.log import Log
from fidkit.passages.postgres.server_catalogue import ServerCatalogue, ServerWords, has_words
from fidkit.passages.search.alone import ByWords
from fidkit.passages.search.ways import Explaining
from fidkit.types import Passage

if TYPE_CHECKING:
    from fidkit.passages.filter import Filter
    from fidkit.passages.local.catalogue import Catalogue
    from fidkit.passages.search.dense import Allowed


class ServedCorpus(Corpus):
    """A corpus in the database, as `Corpus`, of which this machine keeps nothing but caches.

    It is found by words. `path` is where caches of it are.
    """

    def __init__(self, address: Address) -> None:
        """Open.

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
        self._encoder = self._words = self._meaning = self._matching = None

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
        return replace(super().info(), path=self.address.shown)

    def close(self) -> None:
        """Let go of the database."""
        self._log.database.close()

    def __iter__(self) -> Iterator[Passage]:
        """All passages, file by file, in the order of the sources."""
        yield from self._catalogue.passages()

    def __repr__(self) -> str:
        return f"Corpus({self.address.shown!r})"

    def _current_search(self, by: By | None, where: Filter | None) -> tuple[Explaining, Allowed | None]:
        if by in ("meaning", "both"):
            raise CorpusError(
                f"{self.address.shown}: the server searches by words; leave replica=none out to search by "
                "meaning"
            )
        with self._lock:
            matched = self._matched(where)
        words = ServerWords(self._log, self._log.state())
        return ByWords(words), None if matched is None else matched.allowed
