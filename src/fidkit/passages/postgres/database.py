"""Connections to the database: a pool, transactions that are tried again, and what is said when they fail."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from psycopg import Connection, errors
from psycopg_pool import ConnectionPool, PoolTimeout

from fidkit.errors import CorpusError
from fidkit.passages.postgres.address import Address

T = TypeVar("T")

PATIENCE_SECONDS = 30.0
"""How long a server that went away is waited for."""
_MOST_CONNECTIONS = 8
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_GETTING_SECONDS, _LEAST_SECONDS = 5.0, 0.5
# A pool that failed to connect waits longer and longer, up to this; then the next who asks has it try again.
_POOL_TRIES_SECONDS = 1.0
_SAY_GONE = (
    *("connection refused", "no such file or directory", "timeout", "could not translate host name"),
    *("name or service not known", "failed to resolve", "network is unreachable", "no route to host"),
    *("starting up", "shutting down", "recovery mode", "closed the connection", "connection is lost"),
    *("terminating connection", "not yet accepting", "connection reset", "broken pipe"),
    *("too many clients", "too many connections", "connection slots are reserved"),
)
_TRIED_AGAIN = (errors.DeadlockDetected, errors.SerializationFailure)

logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # what it says is said here, once


class AwayError(CorpusError):
    """The server can't be reached, or went away in the middle."""


class Database:
    """A pool of connections, made at first use. Safe to use from several threads, not across a fork."""

    def __init__(self, address: Address, patience: float = PATIENCE_SECONDS) -> None:
        self.address, self._patience = address, patience
        self._lock = threading.Lock()
        self._pool: ConnectionPool[Connection] | None = None

    def run(
        self, work: Callable[[Connection], T], *, snapshot: bool = False, patience: float | None = None
    ) -> T:
        """What `work` gives, done in a transaction that is committed when it returns.

        A transaction that lost its connection, or was chosen to end a deadlock, is done again from its
        start, so `work` has to bear being called twice, also where the first commit did arrive.

        Args:
            work: uses the connection.
            snapshot: read only, and all of it in the state of one moment.
            patience: seconds that a server which is away is waited for.

        Raises:
            AwayError: it stayed away.
            CorpusError: it refuses: a wrong password, no such database, no rights.
        """
        deadline = time.monotonic() + (self._patience if patience is None else patience)
        pause = _FIRST_PAUSE
        while True:
            try:
                return self._once(work, snapshot, deadline - time.monotonic())
            except _TRIED_AGAIN:
                if time.monotonic() > deadline:
                    raise
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                if not self._is_gone(error):
                    raise self._refused(error) from error
                if time.monotonic() + pause > deadline:
                    raise AwayError(
                        f"{self.address.shown}: the database can't be reached ({self.address.clean(error)}); "
                        "check that the server runs, and the host and port"
                    ) from error
            except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction) as error:
                raise self._refused(error) from error
            time.sleep(pause * (0.5 + random.random()))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def close(self) -> None:
        with self._lock:
            if self._pool is not None:
                self._pool.close()
            self._pool = None

    def _once(self, work: Callable[[Connection], T], snapshot: bool, left: float) -> T:
        getting = min(_GETTING_SECONDS, max(_LEAST_SECONDS, left))
        with self._connection(getting) as connection, connection.transaction():
            if snapshot:
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            return work(connection)

    @contextmanager
    def _connection(self, seconds: float) -> Iterator[Connection]:
        """One of the pool; where it has none in time, one beside it.

        A pool that has none can't tell a server that is away from a machine that is busy. Connecting says
        what is wrong, or serves as well.
        """
        pool = self._connections()
        try:
            connection = pool.getconn(seconds)
        except PoolTimeout:
            with psycopg.connect(self.address.conninfo) as connection:
                yield connection
            return
        try:
            yield connection
        finally:
            pool.putconn(connection)

    def _connections(self) -> ConnectionPool[Connection]:
        with self._lock:
            if self._pool is None:
                # A pool tries again whatever is wrong, so the first connection is made without it.
                psycopg.connect(self.address.conninfo).close()
                self._pool = ConnectionPool(
                    self.address.conninfo, min_size=0, max_size=_MOST_CONNECTIONS, num_workers=1,
                    check=ConnectionPool.check_connection, open=True, max_idle=60.0,
                    reconnect_timeout=_POOL_TRIES_SECONDS,
                )  # fmt: skip
            return self._pool

    def _is_gone(self, error: psycopg.Error) -> bool:
        if isinstance(error, psycopg.InterfaceError):
            return True
        if error.sqlstate is not None:  # said by a server that answered
            return error.sqlstate.startswith(("57P", "08"))
        said = str(error).lower()
        return any(sign in said for sign in _SAY_GONE)

    def _refused(self, error: psycopg.Error) -> CorpusError:
        return CorpusError(
            f"{self.address.shown}: the database refuses ({self.address.clean(error)}); check user, password "
            "and database, and that the user has rights on the schema fidkit"
        )
