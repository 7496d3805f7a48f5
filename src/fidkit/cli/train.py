"""`fidkit train`: run a recipe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe in TOML.", show_default=False)],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable."),
    ] = None,
) -> None:
    """Train a reader by a recipe; started again, it goes on where it was."""
    from fidkit.cli.progress import progress
    from fidkit.train.loop import Trainer
    from fidkit.train.recipe import load_recipe

    loaded = load_recipe(recipe, changes or [])
    with progress(f"training {loaded.output}", loaded.steps) as bar:
        done = 0

        def show(row: dict[str, Any]) -> None:
            nonlocal done
            bar.advance(row["step"] - done)
            done = row["step"]
            if row["kind"] == "evaluation" or not sys.stderr.isatty():
                print(line(row), file=sys.stderr)
            else:
                bar.describe(line(row))

        Trainer(loaded, show).run()
    # Without development questions there is no best.
    print(f"{loaded.output}/{'best' if loaded.evaluation.files else 'last'}")


def line(row: dict[str, Any]) -> str:
    """A row of the log for a person."""
    if row["kind"] == "evaluation":
        sets = ", ".join(
            f"{n} EM {v['em']:.1f} F1 {v['f1']:.1f}" for n, v in row.items() if isinstance(v, dict)
        )
        return f"step {row['step']}: {sets}"
    return f"step {row['step']}: loss {row['loss']:.3f}, {row['tokens_per_s']:,} tokens/s"
