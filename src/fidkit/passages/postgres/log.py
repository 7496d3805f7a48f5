"""A corpus in the database by its name: what state it is in, and changes written to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from psycopg import Connection

from fidkit.errors import CorpusError
from fidkit.passages.local.layout import FORMAT_VERSION
from fidkit.passages.local.reading import Part
from fidkit.passages.postgres.address import Address
from fidkit.passages.postgres.change import Change, NewFile
from fidkit.passages.postgres.database import Database
from fidkit.passages.postgres.schema import prepare

T = TypeVar("T")


class MadeBy(NamedTuple):
    """An encoder, as `fidkit.passages.search.encoder.VectorEncoder` tells of itself."""

    name: str
    fingerprint: str
    dimension: int


class State(NamedTuple):
    """How far the log of a corpus is.

    Attributes:
        corpus: its number in the database.
        identity: of this corpus and no other, whatever it is called.
        sequence: number of the last change.
        passages, fingerprint: of all that is there.
        facts: `sources` and how documents are cut.
        encoder: whose vectors the database has; None for none.
    """

    corpus: int
    identity: str
    sequence: int
    passages: int
    fingerprint: str
    facts: dict[str, Any]
    encoder: MadeBy | None


class Log:
    """A corpus of a database. Safe to use from several threads and by several processes."""

    def __init__(self, database: Database) -> None:
        self.database, self._address = database, database.address

    def open(self, *, make: bool = False) -> State:
        """See that everything is there, without waiting for a server that is away.

        Args:
            make: make tables and the corpus where there are none.

        Raises:
            AwayError: the server can't be reached.
            CorpusError: no such corpus, no rights, or another version of schema or format.
        """

        def opened(connection: Connection) -> State:
            prepare(connection, self._address, make=make)
            if make:
                connection.execute(
                    "INSERT INTO fidkit.corpora (name, format) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                    (self._address.corpus, FORMAT_VERSION),
                )
            return state_of(connection, self._address)

        return self.database.run(opened, patience=0.0)

    def state(self, patience: float | None = None) -> State:
        """How far it is."""
        return self.database.run(lambda connection: state_of(connection, self._address), patience=patience)

    @property
    def shown(self) -> str:
        """Its URL, without a password."""
        return self._address.shown

    def seen_by(self, connection: Connection) -> State:
        """How far it is, as a connection sees it."""
        return state_of(connection, self._address)

    def write(
        self,
        corpus: int,
        names: Iterable[str],
        work: Callable[[Change], T],
        facts: dict[str, Any] | None = None,
    ) -> T:
        """Make one change, whole or not at all; `work` may be called again (`Database.run`).

        Args:
            corpus: number of the corpus.
            names: of all files that `work` puts or removes.
            work: does it.
            facts: of the corpus, from now on.
        """
        locked = list(names)

        def written(connection: Connection) -> T:
            change = Change(connection, corpus)
            change.lock(locked)
            done = work(change)
            change.seal(facts)
            return done

        return self.database.run(written)

    def put(self, corpus: int, file: NewFile, parts: Callable[[], Iterable[Part]]) -> int:
        """Put a file in the place of the one with its name, or as a new one; how many passages it has."""
        return self.write(corpus, [file.name], lambda change: change.put(file, parts()))

    def remove(self, corpus: int, name: str) -> None:
        """Take a file out."""
        self.write(corpus, [name], lambda change: change.remove(name))


def state_of(connection: Connection, address: Address) -> State:
    """The state in which a connection sees the corpus of an address.

    Raises:
        CorpusError: there is none of the name, or it is of another format.
    """
    query = """SELECT c.corpus, identity, sequence, passages, c.fingerprint, e.name, e.fingerprint,
        e.dimension, facts, format
        FROM fidkit.corpora c LEFT JOIN fidkit.encoders e USING (corpus) WHERE c.name = %s"""
    found = connection.execute(query, (address.corpus,)).fetchone()
    build = f"`fidkit corpus build SOURCE --to '{address.shown}'`"
    if found is None:
        others = connection.execute("SELECT name FROM fidkit.corpora ORDER BY name LIMIT 5").fetchall()
        there = ", ".join(repr(name) for (name,) in others) or "none"
        raise CorpusError(
            f"{address.shown}: no corpus is called {address.corpus!r} here (there are: {there}); make it "
            f"with {build}, or name another with ?corpus=NAME"
        )
    *known, facts, version = found
    if version > FORMAT_VERSION:
        raise CorpusError(
            f"{address.shown}: this corpus has format version {version}, this fidkit reads up to "
            f"{FORMAT_VERSION}; upgrade fidkit"
        )
    if version < FORMAT_VERSION:
        raise CorpusError(
            f"{address.shown}: this corpus has format version {version}, this fidkit reads {FORMAT_VERSION}; "
            f"build it under another name with {build}"
        )
    corpus, identity, sequence, passages, fingerprint, *encoder = known
    held = facts if isinstance(facts, dict) else json.loads(facts)
    made_by = None if encoder[0] is None else MadeBy(*encoder)
    return State(corpus, str(identity), sequence, passages, bytes(fingerprint).hex(), held, made_by)
