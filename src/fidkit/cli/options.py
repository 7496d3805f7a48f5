"""What verbs have in common: options that several have, and that no value is empty."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from fidkit.errors import UsageError

_EXPLAINED = ("question", "queries", "sources")
"""Arguments whose verbs say themselves what is expected instead of nothing."""


class Verb(TyperCommand):
    """A command that takes no empty value: as a path it would mean this folder, which nobody asked for."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As of `TyperCommand`.

        Raises:
            UsageError: an option or an argument is empty.
        """
        given = list(args)
        rest = super().parse_args(ctx, args)
        values, _, _ = self.make_parser(ctx).parse_args(args=given)
        for parameter in self.get_params(ctx):
            value = values.get(str(parameter.name))
            is_option = parameter.param_type_name == "option"
            if (is_option or parameter.name not in _EXPLAINED) and (value == "" or _holds_empty(value)):
                called = parameter.opts[-1] if is_option else parameter.metavar or str(parameter.name).upper()
                raise UsageError(
                    f"{called} is empty; expected a value (. is this folder); see `{ctx.command_path} --help`"
                )
        return rest


def _holds_empty(value: object) -> bool:
    return isinstance(value, list | tuple) and "" in value


Documents = Annotated[
    str, typer.Argument(help="A built corpus, its URL, a folder or a file.", show_default=False)
]
Directory = Annotated[str, typer.Argument(help="A corpus directory, or postgresql://...", show_default=False)]
Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PATH]...",
        help="Folders, files, a built corpus or its URL. fidkit's own docs if absent.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
ByOption = Annotated[str, typer.Option(help="Who does the work: local, or ray, a cluster.")]
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
