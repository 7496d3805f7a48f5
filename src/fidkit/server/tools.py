"""What a model of somebody else can do with the documents, over MCP: search, answer, read, add."""

from __future__ import annotations

import asyncio
import functools
import io
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, ParamSpec, TypeVar

from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CallToolResult, InputRequiredResult
from pydantic import ValidationError

from fidkit import __version__
from fidkit.errors import FidkitError
from fidkit.server import errors
from fidkit.server.asking import asked, searched
from fidkit.server.errors import RequestError
from fidkit.server.library import Library, said_of
from fidkit.server.piped import spoken
from fidkit.server.routes.answering import hit_record
from fidkit.server.routes.documents import shown
from fidkit.server.scheduler import LateError, OverloadedError
from fidkit.server.schemas import AnswerRequest
from fidkit.server.service import PASSAGES, Service

P = ParamSpec("P")
T = TypeVar("T")
_ABOUT = """Answers from a person's documents. `answer` finds passages and reads them: it is quick, and says \
where each answer stands and how sure it is; null means that the documents don't seem to say. `search` gives \
passages to read yourself. `read` shows a passage in its surroundings, by the source that both give."""
_UNBEGUN = (
    "came before the session was begun; send `initialize` first, and `notifications/initialized` after it"
)


def _told(tool: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """A tool whose errors for a person reach the one who called it."""

    @functools.wraps(tool)
    async def telling(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await tool(*args, **kwargs)
        except (RequestError, FidkitError, OverloadedError, LateError, ValidationError) as error:
            raise ToolError(errors.said(error)) from error

    return telling


def server(service: Service, library: Library | None) -> MCPServer:
    """An MCP server of a service, not running yet; its tools raise what the API's routes say."""
    with _logging_as_it_was():
        made = _Server(
            "fidkit",
            version=__version__,
            instructions=_ABOUT,
            subscriptions=False,  # nothing ever changes that a client could wait for
            middleware=[_in_our_words],
        )
    _add_questions(made, service)
    _add_reading(made, service)
    if library is not None and library.folder is not None:
        _add_adding(made, library)
    return made


class _Server(MCPServer):
    """One whose refusals of arguments are in our words, and which drops none that it doesn't know."""

    _taken: dict[str, list[str]] | None = None

    async def run_stdio_async(self) -> None:
        """As its own, but that all that was asked is answered before it ends."""
        of = self._lowlevel_server
        async with spoken() as (asked, answers):
            await of.run(asked, answers, of.create_initialization_options())

    async def _arguments(self) -> dict[str, list[str]]:
        """The arguments of each tool, by name; all tools are there before any is called."""
        if self._taken is None:
            self._taken = {
                tool.name: list(tool.input_schema["properties"]) for tool in await self.list_tools()
            }
        return self._taken

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[Any, Any] | None = None
    ) -> NoReturn:
        """There are none, which is no fault of ours: the library would log it as one."""
        raise MCPError(INVALID_PARAMS, f"no prompt {name!r} here; there are tools alone, see tools/list")

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """As its own, where there is such a tool with such arguments."""
        taken = await self._arguments()
        if name not in taken:
            raise ToolError(f"no tool {name!r} here; expected one of {', '.join(taken)}")
        for one in arguments:
            if one not in taken[name]:
                raise ToolError(f"{name}: unknown argument {one!r}; expected {', '.join(taken[name])}")
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if isinstance(error.__cause__, ValidationError):
                raise ToolError(f"{name}: {errors.said(error.__cause__)}") from error
            raise


async def _in_our_words(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware: of each message that it refuses the library says "Invalid request parameters" alone."""
    try:
        return await call_next(ctx)
    except ValidationError as error:
        raise MCPError(INVALID_PARAMS, f"{ctx.method}: {errors.said(error)}") from error
    except MCPError as error:
        if error.code != INVALID_PARAMS or error.data != "":  # it has words of its own
            raise
        raise MCPError(INVALID_PARAMS, f"{ctx.method} {_UNBEGUN}") from error


@contextmanager
def _logging_as_it_was() -> Iterator[None]:
    """A library that logs all that anybody says to stderr, once it is used, is asked not to."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def _add_questions(to: MCPServer, service: Service) -> None:
    @to.tool(title="Answer a question from the documents")
    @_told
    async def answer(
        question: str, passages: int = PASSAGES, where: list[str] | None = None
    ) -> dict[str, Any]:
        """Answer a question from the documents, with evidence and how sure that is.

        Args:
            question: in plain words.
            passages: how many are read, at most.
            where: conditions on documents, such as kind=pdf, source=contracts/*, after=2024-01-01.
        """
        request = AnswerRequest.model_validate(
            {"question": question, "passages": passages, "where": where or []}
        )
        [made] = await service.answer(asked(request, service.limits))
        record = made.to_json(question, service.reader())
        having = [e for e in record["evidence"] if e["span"] is not None]
        record["evidence"] = having or record["evidence"][:3]
        return record

    @to.tool(title="Find passages in the documents")
    @_told
    async def search(question: str, passages: int = 10, where: list[str] | None = None) -> dict[str, Any]:
        """Find the passages that match a question best.

        Args:
            question: in plain words.
            passages: how many, at most.
            where: conditions on documents, as of `answer`.
        """
        [(_, hits)] = await searched(service, question, passages, where or [])
        return {"passages": [hit_record(hit) for hit in hits]}


def _add_reading(to: MCPServer, service: Service) -> None:
    @to.tool(title="Read a passage in its surroundings")
    @_told
    async def read(source: str) -> dict[str, Any]:
        """Read characters of a document, and what stands around them.

        Args:
            source: as `answer` and `search` give it: `notes/a.md:120-734`; without numbers the document's
                whole text.
        """
        return await asyncio.to_thread(shown, service, source)


def _add_adding(to: MCPServer, library: Library) -> None:
    @to.tool(title="Add a document")
    @_told
    async def add(name: str, text: str) -> str:
        """Add a text to the documents; one of the same name is replaced.

        Args:
            name: of a file, such as notes.md.
            text: what it holds.
        """
        kept = await asyncio.to_thread(library.add, name, io.BytesIO(text.encode("utf-8", "replace")))
        return said_of([kept])
