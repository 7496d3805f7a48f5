"""MCP over stdin and stdout: one who closes stdin has the answers to what was asked before.

The library takes the end of what is asked for the end of the connection, and tells those who wait for an
answer that it was closed. A program that pipes its requests in has closed its side long before the first
answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp_types import (
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
)
from pydantic import ValidationError

Asked: TypeAlias = SessionMessage | Exception
"""A line of stdin, or why it is no message."""
_NO_MESSAGE = (
    "this line is no message of JSON-RPC; expected one JSON object a line, such as "
    '{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'
)


@asynccontextmanager
async def spoken() -> AsyncIterator[
    tuple[MemoryObjectReceiveStream[Asked], MemoryObjectSendStream[SessionMessage]]
]:
    """What is asked on stdin, and where to answer it; what is asked ends once all of it is answered."""
    waiting = _Waiting()
    to_server, asked = anyio.create_memory_object_stream[Asked]()
    answers, from_server = anyio.create_memory_object_stream[SessionMessage]()
    async with stdio_server() as (stdin, stdout), anyio.create_task_group() as tasks:

        async def pass_on() -> None:
            async with to_server:
                async for message in stdin:
                    if isinstance(message, Exception):  # the library would drop it without a word
                        if _is_blank(message):
                            continue
                        error = ErrorData(code=PARSE_ERROR, message=_NO_MESSAGE)
                        await stdout.send(SessionMessage(JSONRPCError(jsonrpc="2.0", id=None, error=error)))
                        continue
                    waiting.see(message)
                    await to_server.send(message)
                await waiting.over()

        async def pass_back() -> None:
            async with stdout:
                async for message in from_server:
                    await stdout.send(message)
                    waiting.see(message)

        tasks.start_soon(pass_on)
        tasks.start_soon(pass_back)
        yield asked, answers


def _is_blank(error: Exception) -> bool:
    """Whether a line is no message since nothing is on it."""
    return isinstance(error, ValidationError) and not str(error.errors()[0]["input"]).strip()


class _Waiting:
    """Requests that wait for their answers, by their ids."""

    def __init__(self) -> None:
        self._ids: Counter[str] = Counter()
        self._none = anyio.Event()
        self._ended = False

    def see(self, message: SessionMessage) -> None:
        """A message, of the client when it came or of the server when it went."""
        match message.message:
            case JSONRPCRequest(id=one):
                self._ids[str(one)] += 1
            case JSONRPCResponse(id=one) | JSONRPCError(id=one):
                self._drop(one)
            case JSONRPCNotification(method="notifications/cancelled", params={"requestId": one}):
                self._drop(one)  # it is never answered

    async def over(self) -> None:
        """Until none waits; nothing more is asked."""
        self._ended = True
        if self._ids.total():
            await self._none.wait()

    def _drop(self, one: object) -> None:
        # Clients cancel 1 as "1", which the library takes for the same.
        if self._ids[str(one)]:
            self._ids[str(one)] -= 1
        if self._ended and not self._ids.total():
            self._none.set()
