"""Options that several verbs have."""

from __future__ import annotations

from typing import Annotated

import typer

Directory = Annotated[str, typer.Argument(help="A corpus directory, or postgresql://…", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="NAME=VALUE",
        help="Look in these documents alone; repeatable. source=contracts/*, kind=pdf, after=2024-01-31, "
        "before=2025, or what documents say of themselves, such as author=*lovelace*.",
        show_default=False,
    ),
]
