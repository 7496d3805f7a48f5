"""A corpus in the database, searched in this machine's replica."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace

from fidkit.cluster import By
from fidkit.errors import CorpusError
from fidkit.passages.local.catalogue import Catalogue
from fidkit.passages.local.check import CheckReport, Fault
from fidkit.passages.local.check import check as check_directory
from fidkit.passages.local.corpus import Corpus
from fidkit.passages.local.cuts import WantedCutting
from fidkit.passages.local.info import CorpusInfo
from fidkit.passages.local.layout import CorpusBusyError, UnwritableError
from fidkit.passages.local.report import BuildProgress, BuildReport
from fidkit.passages.local.vectors import EncoderSource, Wanted
from fidkit.passages.postgres.address import Address
from fidkit.passages.postgres.build import build
from fidkit.passages.postgres.database import AwayError, Database
from fidkit.passages.postgres.feeding import Tell
from fidkit.passages.postgres.log import Log
from fidkit.passages.postgres.replica import Replica
from fidkit.passages.postgres.served import ServedCorpus
from fidkit.passages.postgres.server_catalogue import make_words

_LOOK_SECONDS = 2.0
_SETTLED_AFTER = 15  # looks at which nothing was new
_WAIT_SECONDS = 600.0

_log = logging.getLogger(__name__)


class PostgresCorpus(Corpus):
    """A corpus in a database: as `Corpus`, of the state that the replica has.

    The replica is caught up when it is opened, and about every two seconds while it is open. While the
    server is away it is searched as it is.
    """

    def __init__(
        self,
        address: Address,
        encoder: EncoderSource | None = None,
        tell: Tell | None = None,
        *,
        follow: bool = True,
    ) -> None:
        """Open; `follow` catches up in a thread of its own.

        Raises:
            AwayError: the server can't be reached, and there is no replica yet.
            CorpusError: the server refuses, there is no such corpus, or the replica can't be written.
        """
        self.address = address
        self._source = Log(Database(address))
        self._replica = Replica(self._source, encoder)
        try:
            notes = self._catch_up_first(tell)
            super().__init__(self._replica.directory, encoder)
        except BaseException:
            self._source.database.close()
            raise
        self.notes = notes
        self._ended = threading.Event()
        if follow:
            threading.Thread(target=self._follow, name="fidkit-follow", daemon=True).start()

    def _catch_up_first(self, tell: Tell | None) -> tuple[str, ...]:
        """Catch up where that can be; what a person should know."""
        try:
            self._source.open()
            self._replica.catch_up(tell, wait=0.0 if self._replica.is_there() else _WAIT_SECONDS)
        except CorpusBusyError:
            pass  # somebody on this machine catches up already: the state before answers
        except (AwayError, UnwritableError) as error:
            if not self._replica.is_there():
                raise
            return (f"{error}; this is answered from change {self._known():,}",)
        return ()

    @property
    def generation(self) -> int:
        """The last change that is in the replica."""
        with self._lock:
            return int(self._catalogue.meta()["sequence"])

    def refresh(self, progress: Callable[[BuildProgress], None] | None = None) -> BuildReport:
        """Catch up with the database; its sources are read by `Corpus.build` alone.

        Raises:
            AwayError: the server can't be reached.
        """
        came, gone = self._replica.catch_up(progress, wait=_WAIT_SECONDS)
        self.report = BuildReport(came, gone, 0, 0.0)
        return self.report

    def info(self) -> CorpusInfo:
        """What the replica holds now."""
        found = super().info()
        return replace(found, path=self.address.shown, generation=self.generation)

    def close(self) -> None:
        """Let go of the replica and the database."""
        self._ended.set()
        super().close()
        self._source.database.close()

    def __repr__(self) -> str:
        return f"Corpus({self.address.shown!r})"

    def _follow(self) -> None:
        """Catch up again and again; say once when that can't be, and once when it can again."""
        away, quiet = bool(self.notes), 0
        while not self._ended.wait(_LOOK_SECONDS):
            try:
                quiet = 0 if any(self._replica.catch_up(patience=0.0)) else quiet + 1
                if quiet == _SETTLED_AFTER:
                    self._replica.settle()
            except CorpusBusyError:
                continue
            except CorpusError as error:
                if not away and not self._ended.is_set():
                    _log.warning("%s; until then answers are of change %s", error, f"{self._known():,}")
                away = True
                continue
            if away:
                _log.info("%s: caught up again; change %s", self.address.shown, f"{self._known():,}")
            away, self.notes = False, ()

    def _known(self) -> int:
        return self._replica.known()[1]


def build_corpus(
    sources: Iterable[str | os.PathLike[str]],
    address: Address,
    tell: Tell | None,
    encoder: EncoderSource | None,
    vectors: bool | None,
    cutting: WantedCutting,
    by: By = "local",
) -> Corpus:
    """Bring a corpus in the database up to date with its sources, and open it.

    Raises:
        CorpusError: the database can't be reached or refuses; what was committed stays.
    """
    from fidkit.passages.postgres.server_meaning import make_meaning
    from fidkit.passages.postgres.sharing import share  # both with all of search by meaning

    Wanted(encoder, vectors)  # refuses vectors without an encoder
    database = Database(address)
    try:
        log = Log(database)

        def let_server_search() -> None:
            make_words(log)
            if vectors:
                make_meaning(log)

        ready = (lambda: None) if address.replica else let_server_search
        report = build(log, sources, tell, cutting=cutting, vectors=vectors, by=by, ready=ready)
        share(log, Replica(log, encoder) if address.replica else None, encoder, tell)
    finally:
        database.close()
    corpus = PostgresCorpus(address, encoder, tell) if address.replica else ServedCorpus(address, encoder)
    corpus.report = report
    return corpus


def check_corpus(address: Address, repair: bool, encoder: EncoderSource | None) -> CheckReport:
    """Compare the replica with itself and with the database; `repair` makes it anew.

    Raises:
        CorpusError: as `PostgresCorpus` does.
    """
    with PostgresCorpus(address, encoder, follow=False) as corpus:
        report = check_directory(corpus.path)
        report.outdated = []  # files may lie on another machine
        with closing(Catalogue.for_reading(corpus.path)) as catalogue:
            ours = catalogue.meta()
        theirs = corpus._source.state()
        if ours["sequence"] == str(theirs.sequence) and ours["fingerprint"] != theirs.fingerprint:
            report.faults.append(Fault("the replica", "it doesn't hold what the database does"))
        if repair and report.faults:
            corpus._replica.catch_up(wait=_WAIT_SECONDS, afresh=True)
            report.mended.append("the replica was made anew from the database")
    return report
