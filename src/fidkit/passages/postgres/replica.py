"""This machine's copy of a corpus in the database: a corpus directory that is fed by the log, not by files.

Its catalogue says up to which change it is. Catching up reads what came and went since, in the state of one
moment, and commits it with the index and the vectors that belong to it. Rows have the numbers that the
database gave them, so that equal scores come in one order everywhere.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection

from fidkit.errors import CorpusError
from fidkit.passages.local.build import reindex
from fidkit.passages.local.catalogue import Catalogue, vectors_of
from fidkit.passages.local.layout import CATALOGUE, explained_disk, prepare, writer_lock
from fidkit.passages.local.vectors import EncoderSource, Wanted, keep_begun
from fidkit.passages.postgres.feeding import Feeding, OtherSumsError, Tell, known_in
from fidkit.passages.postgres.log import Log, State

if TYPE_CHECKING:
    from fidkit.passages.search.encoder import VectorEncoder
    from fidkit.passages.search.vectors import Entries, Shard

_said = logging.getLogger(__name__)


class Replica:
    """The copy in one directory. Several processes may share it: one at a time writes."""

    def __init__(self, log: Log, encoder: EncoderSource | None) -> None:
        self._log, self._encoder = log, encoder
        self.directory: Path = log.database.address.directory
        self._looked_at: object = None

    def known(self) -> tuple[str, int]:
        """Identity of the corpus that this is a copy of, and the last change in it; nothing for none."""
        try:
            with closing(Catalogue.for_reading(self.directory)) as catalogue:
                return known_in(catalogue.meta())
        except CorpusError:
            return "", 0

    def is_there(self) -> bool:
        """Whether it can be searched, however old it is."""
        return bool(self.known()[0])

    def catch_up(
        self,
        tell: Tell | None = None,
        *,
        wait: float = 0.0,
        patience: float | None = None,
        afresh: bool = False,
    ) -> tuple[int, int]:
        """Bring it up to the last change; how many files came and went.

        Args:
            tell: called now and then.
            wait: seconds to wait for another process that writes here.
            patience: seconds that a server which is away is waited for.
            afresh: read everything again, whatever is here.

        Raises:
            AwayError: the server can't be reached.
            CorpusBusyError: another process writes here, still after `wait`.
            CorpusError: the disk is full, or what came from the database isn't what its sums say.
        """
        state = self._log.state(patience)
        if not afresh and self._is_current(state):
            return 0, 0
        prepare(self.directory)
        with writer_lock(self.directory, wait), explained_disk(self.directory):
            self._leave_damaged()
            try:
                return self._fed(tell, patience, afresh)
            except OtherSumsError:
                if afresh:
                    raise
            _said.warning("%s: the replica isn't what the database holds; it is made anew", self._log.shown)
            return self._fed(tell, patience, True)

    def settle(self) -> bool:
        """Write the index afresh where removed passages still count in its scores; whether it was.

        Afterwards every replica of the same change gives the same scores, however it came there.

        Raises:
            CorpusBusyError: another process writes here.
            CorpusError: no replica, or the disk is full.
        """
        with closing(Catalogue.for_reading(self.directory)) as catalogue:
            if int(catalogue.meta().get("removed_since_fresh", 0)) == 0:
                return False
        reindex(self.directory, self._encoder)
        return True

    def _fed(self, tell: Tell | None, patience: float | None, afresh: bool) -> tuple[int, int]:
        with closing(Catalogue.for_writing(self.directory)) as catalogue:

            def read(connection: Connection) -> Feeding:
                feeding = Feeding(catalogue, self.directory, connection, self._log.seen_by(connection), tell)
                try:
                    feeding.read(afresh)
                except BaseException:
                    feeding.abandon()
                    catalogue.rollback()
                    catalogue.begin()
                    raise
                return feeding

            try:
                feeding = self._log.database.run(read, snapshot=True, patience=patience)
                # No transaction of the server is open while passages are encoded.
                with explained_disk(self.directory, needed_bytes=feeding.needed_bytes):
                    feeding.commit(self._wanted(feeding.state, catalogue))
            except BaseException:
                with suppress(sqlite3.Error):
                    catalogue.rollback()
                    keep_begun(self.directory, catalogue.meta())
                raise
            return feeding.came, feeding.gone

    def _wanted(self, state: State, catalogue: Catalogue | None = None) -> Wanted:
        """What a directory with this history would have, by the encoder of the database where that is known.

        Args:
            state: of the database.
            catalogue: of this replica, where vectors are to be written.
        """
        source, made_by = self._encoder, state.encoder
        if source is None or made_by is None:
            return Wanted(source, None if source is None else state.facts.get("vectors"))
        if catalogue is None:
            return Wanted(source, True)
        from fidkit.passages.postgres.vectors import taken

        def same() -> VectorEncoder:
            given = source()
            return given.that_made(made_by.fingerprint, made_by.dimension) or given

        def ready(encoder: VectorEncoder, rows: NDArray[np.int64]) -> Iterator[Entries]:
            return taken(self._log, state.corpus, catalogue.files(), encoder, rows)

        return Wanted(same, True, ready)

    def shards(self, encoder: VectorEncoder) -> list[Shard]:
        """Vectors of this encoder that are here; none where there is no replica or they can't be read."""
        from fidkit.passages.search.vectors import Vectors

        try:
            with closing(Catalogue.for_reading(self.directory)) as catalogue:
                name = vectors_of(catalogue.meta())
            found = Vectors(self.directory / name) if name else None
            shards = [] if found is None or found.fingerprint != encoder.fingerprint else found.shards
            for shard in shards:
                shard.require(shard.live_places())
        except (FileNotFoundError, CorpusError):
            return []
        return shards

    def _is_current(self, state: State) -> bool:
        try:
            with closing(Catalogue.for_reading(self.directory)) as catalogue:
                meta = catalogue.meta()
        except CorpusError:
            return False
        if not (
            known_in(meta) == (state.identity, state.sequence)
            and meta["fingerprint"] == state.fingerprint
            and (self.directory / meta["lexical"] / "meta.json").exists()
        ):
            return False
        # Every vector is looked at for this, which is more than a look every two seconds may cost.
        now = meta, state
        if self._looked_at != now and self._wanted(state).is_met(self.directory, meta):
            self._looked_at = now
        return self._looked_at == now

    def _leave_damaged(self) -> None:
        """Delete a catalogue that can't be read: everything is in the database."""
        try:
            Catalogue.for_writing(self.directory).close()
        except CorpusError:
            for file in self.directory.glob(f"{CATALOGUE}*"):
                file.unlink(missing_ok=True)
