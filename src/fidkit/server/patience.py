"""How uvicorn runs: a client that never says what it wants is ended, and who waits is told of an end."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from fidkit.server.limits import Limits

_HEAD_BYTES = 64_000


def settings(application: ASGIApp, limits: Limits, log_level: str = "warning") -> uvicorn.Config:
    """What uvicorn runs an application with.

    Args:
        application: to be run.
        limits: how long a client may be quiet, and answers may take at the end.
        log_level: of uvicorn.
    """

    class Patient(_Patient):
        quiet_seconds = limits.quiet_seconds

    return uvicorn.Config(
        application, http=Patient, log_level=log_level, access_log=False, server_header=False,
        timeout_graceful_shutdown=math.ceil(limits.ending_seconds), h11_max_incomplete_event_size=_HEAD_BYTES,
    )  # fmt: skip


class Server(uvicorn.Server):
    """A server that says so as soon as it is told to end.

    Args:
        config: of uvicorn.
        ending: called then.
    """

    def __init__(self, config: uvicorn.Config, ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._ending = ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending()
        await super().shutdown(sockets)


class _Patient(H11Protocol):
    """Ends a connection when the head of a request isn't whole after some seconds, however it trickles.

    uvicorn waits for ever for it. Of bodies and answers the guard takes care.
    """

    quiet_seconds: float
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop()

    def _look(self) -> None:
        """Have it end later while a head is due, and not while a request is answered."""
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._stop()
        elif self._late is None:
            self._late = self.loop.call_later(self.quiet_seconds, self._end)

    def _end(self) -> None:
        self._late = None
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete:
            self.transport.close()

    def _stop(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
