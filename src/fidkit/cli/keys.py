"""`fidkit keys`: keys for a server that others may reach."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fidkit.cli.options import Verb

app = typer.Typer(help="Keys of those who may ask a server.", rich_markup_mode=None)


@app.callback()
def _of_keys() -> None:
    pass


@app.command(cls=Verb)
def add(
    name: Annotated[str, typer.Argument(help="Whose it is; the server's log says it.")],
    to: Annotated[Path, typer.Option(metavar="FILE", help="File of keys; made if absent.")],
) -> None:
    """Make a key and print it, once: the file keeps its hash alone. To revoke it, take its line out."""
    from fidkit.server.keys import add as made

    print(made(to, name))
    print(f"note: {to} knows it by its hash; keep the key, it can't be shown again", file=sys.stderr)
