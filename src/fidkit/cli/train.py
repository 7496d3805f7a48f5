"""`fidkit train`: run a recipe, or say what it would need."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fidkit.cli.decoding import DeviceName
from fidkit.cli.progress import clock
from fidkit.wording import some

if TYPE_CHECKING:
    from fidkit.cost import Hardware
    from fidkit.train.recipe import Recipe

COLUMNS = (
    "stage",
    "steps",
    "questions",
    "passages",
    "TFLOP",
    "seconds",
    "of peak",
    "in all",
    "memory",
)
LOSSES = ("loss", "distil", "states", "rerank", "guide", "pointer", "overlap")
"""As a row of the log names what is learnt; `loss` is that of the answers."""


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe in TOML.", show_default=False)],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable."),
    ] = None,
    device: DeviceName = "auto",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print parameters, memory and time of a step; train nothing."),
    ] = False,
    hardware: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="With --dry-run: h200, h100, a100, tpuv4, cpu-2core, or local.",
            show_default="this machine",
        ),
    ] = None,
) -> None:
    """Train a reader by a recipe; started again, it goes on where it was."""
    from fidkit.errors import UsageError
    from fidkit.train.recipe import load_recipe

    loaded = load_recipe(recipe, changes or [])
    if dry_run:
        from fidkit.train.forecast import config_of

        config_of(loaded)  # that there is no such reader is said before a machine is measured
        return _foretell(loaded, _machine(hardware))
    if hardware is not None:
        raise UsageError(f"--hardware {hardware} goes with --dry-run; training runs on this machine")
    _run(loaded, device)


def _run(recipe: Recipe, device: str) -> None:
    from fidkit.cli.progress import progress
    from fidkit.train.loop.training import Trainer

    with progress(f"training {recipe.output}", recipe.steps) as bar:
        done = 0

        def show(row: dict[str, Any]) -> None:
            nonlocal done
            bar.advance(row["step"] - done)
            done = row["step"]
            if row["kind"] != "train" or not sys.stderr.isatty():
                print(line(row), file=sys.stderr)
            else:
                bar.describe(line(row))

        trainer = Trainer(recipe, show, device)
        trainer.run()
        trainer.group.leave()
    if trainer.group.leads:  # once, however many processes train
        # Without development questions there is no best, nor where nothing was learnt to write.
        best = trainer.directory.best
        print(f"{recipe.output}/{best.name if best.exists() else 'last'}")


def line(row: dict[str, Any]) -> str:
    """A row of the log for a person."""
    return f"step {row['step']}: {_TEXTS[row['kind']](row)}"


def _train(row: dict[str, Any]) -> str:
    learnt = [f"{name} {row[name]:.3f}" for name in LOSSES if name in row]
    parts = [*learnt, f"rate {row['rate']:.2g}", f"{row['tokens_per_s']:,} tokens/s"]
    if "cut" in row:
        parts.append(f"{row['cut']:,} texts cut")
    if "peak_share" in row:
        parts.append(f"{row['peak_share']:.1%} of peak")
    return ", ".join([*parts, f"{clock(row['left_s'])} left"])


def _evaluation(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_scores(value)}" for name, value in row.items() if isinstance(value, dict))


def _scores(scores: dict[str, float]) -> str:
    names = {"em": "EM", "f1": "F1", "forced_em": "forced EM", "forced_f1": "forced F1", "silent": "silent"}
    return " ".join(f"{names[key]} {value:.1f}" for key, value in scores.items())


def _restart(row: dict[str, Any]) -> str:
    return f"{row['reason']}; back to step {row['back_to']}, with {row['rate_factor']:g} times the rate"


def _change(row: dict[str, Any]) -> str:
    changed = ", ".join(f"{key} = {now} (was {was})" for key, (was, now) in row["keys"].items())
    return "; ".join([f"now {changed}", *row.get("unlike", ())])


def _moments(row: dict[str, Any]) -> str:
    fresh = row["fresh"]
    if not fresh:
        return "second moments carried on"
    return f"second moments carried on, but for {len(fresh)} parameters that begin anew ({some(fresh)})"


_TEXTS = {
    "train": _train,
    "evaluation": _evaluation,
    "pointing": _evaluation,
    "restart": _restart,
    "change": _change,
    "moments": _moments,
}


# Without training


def _machine(name: str | None) -> Hardware:
    """The one that was named; else this one, measured if nothing is known of it."""
    from fidkit.cli.plan import find_or_measure
    from fidkit.cost.hardware import LOCAL

    if name is None:
        from fidkit.train.loop.meter import this_machine

        return this_machine() or find_or_measure(LOCAL)
    return find_or_measure(name)


def _foretell(recipe: Recipe, machine: Hardware) -> None:
    from fidkit.cli.table import print_table
    from fidkit.errors import FidkitError
    from fidkit.train.forecast import forecast

    found = forecast(recipe, machine)
    origin = recipe.reader.preset or recipe.reader.start
    print(
        f"{origin} ({found.parameters / 1e6:,.1f}M parameters) on {machine.name}: {recipe.steps:,} steps, "
        f"{recipe.precision}, about {clock(found.seconds)} in one process, evaluations and saves not counted"
    )
    rows = [
        (
            str(number),
            f"{s.stage.steps:,}",
            f"{s.stage.accumulate} x {s.stage.questions}",
            str(s.stage.passages),
            f"{s.flops / 1e12:,.3f}",
            f"{s.step_s:,.3g}",
            f"{s.peak_share:.0%}",
            clock(s.stage.steps * s.step_s),
            _gb(s.state_bytes + s.activation_bytes),
        )
        for number, s in enumerate(found.stages, 1)
    ]
    print_table(COLUMNS, rows, text=())
    print(
        f"memory: {_gb(found.stages[0].state_bytes)} for weights, gradients and the optimiser (with "
        'parallel = "fsdp", each of n processes has 1/n of it), the rest for activations of one batch; texts '
        "are taken to be as long as the reader allows"
    )
    print(f"{machine.name}: {machine.source}", file=sys.stderr)
    if missing := list(map(str, recipe.missing())):
        print(f"note: training will need what isn't there: {some(missing)}", file=sys.stderr)
    if found.bytes > machine.usable_bytes:
        raise FidkitError(
            f"{_gb(found.bytes)} needed, {_gb(machine.usable_bytes)} usable on {machine.name}; "
            'try checkpointing = ["encoder", "decoder"], fewer questions at a time, or parallel = "fsdp"'
        )


def _gb(size: int) -> str:
    return f"{size / 1e9:,.2f} GB"
