"""`fidkit mcp`: documents for a model of somebody else."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fidkit.cli.decoding import DeviceName, PrecisionName
from fidkit.cli.options import Sources
from fidkit.cli.say import unwritten
from fidkit.errors import UsageError
from fidkit.wording import counted


def mcp(
    sources: Sources = None,
    reader: Annotated[
        str, typer.Option(help="Directory, bundled name, or hub name, also as NAME=READER.")
    ] = "pocket",
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
) -> None:
    """Speak MCP on stdin and stdout: search, answer, read and add. `fidkit serve` has it at /mcp."""
    try:
        from fidkit.server.tools import server
    except ImportError as error:
        raise UsageError(
            f"MCP needs {error.name}, which is not installed; get it with: pip install 'fidkit[serve]'"
        ) from error
    import anyio

    from fidkit.cli.serve import opened
    from fidkit.server.readers import by_name
    from fidkit.server.renewal import kept_up

    with opened(sources or [], by_name([reader]), device, precision) as (service, library):

        async def speak() -> None:
            async with kept_up(service, library):
                await server(service, library).run_stdio_async()

        print(f"note: {counted(len(service.corpus), 'passage')}; MCP on stdin and stdout", file=sys.stderr)
        try:
            anyio.run(speak)
        except ExceptionGroup as group:
            raise _meant(group) from group


def _meant(error: Exception) -> Exception:
    """Of several tasks' errors the first, which the others ended for; of stdout's, what all verbs say."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return unwritten(error) if isinstance(error, OSError) else error
