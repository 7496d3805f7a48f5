"""Convert a trained FiD to FiDO's decoder, repair it with little training, and judge it at every stage.

    python benchmarks/upcycling.py --data DATA --corpus DIR [--seeds 1 2 3] [--ways uptrained distilled]

Without seeds, only conversions are judged. The original is the bundled reader; it keeps the cross-attention
of its last layer of two, and one key/value head. It is uptrained by recipes/uptrain.toml with 5 and 10 % of
the steps that the original took, and distilled by recipes/distil.toml with 10 %; `--ways continued` trains
the original itself as long, as a control; `--percents`, `--every`, `--kv-heads`, `--rate` and `--temperature`
ask for other shares, shapes, rates of learning, and temperatures of distillation. Readers go to
runs/upcycling, rows to benchmarks/results/upcycling.jsonl; what has a row is not done again, and a run that
was cut off goes on. `python benchmarks/render.py` renders the rows into docs/upcycling.md.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import judging
import rows
import torch
import training

from fidkit.convert import Knobs, load
from fidkit.reader import Reader

ORIGINAL = "pocket"
ORIGINAL_RECIPES = ("pocket.toml", "pocket-retrieved.toml")
WAYS = {"uptrained": "uptrain.toml", "distilled": "distil.toml", "continued": "uptrain.toml"}
PLAN = {"uptrained": (5, 10), "distilled": (10,), "continued": (10,)}
"""Per cent of the original's steps."""
STAGE = {"questions": 28, "passages": 1, "auxiliary": 1.0}
"""Of a step, as most of the original's were: readers are judged by reading one passage."""


@dataclass(frozen=True)
class Shape:
    """Of the decoder; the original has cross-attention in every layer and as many heads of each kind."""

    every: int = 1
    kv_heads: int | None = None
    origin: Literal["own", "mean"] = "own"
    kv_heads_from: Literal["svd", "mean"] = "svd"

    @property
    def name(self) -> str:
        return f"{self.every}-{self.kv_heads or 'all'}" + ("-mean" if self.kv_heads_from == "mean" else "")

    @property
    def knobs(self) -> Knobs:
        return Knobs(
            cross_attention_every=self.every,
            cross_attention_from=self.origin,
            kv_heads=self.kv_heads,
            kv_heads_from=self.kv_heads_from,
        )


UPCYCLED = Shape(every=2, kv_heads=1)
SHAPES = (
    Shape(), Shape(2), Shape(2, origin="mean"), Shape(1, 2), Shape(1, 1), Shape(1, 1, kv_heads_from="mean"),
    UPCYCLED, Shape(2, 1, kv_heads_from="mean"),
)  # fmt: skip
"""That are judged without any training."""
RATE = 1e-3
"""Of learning; the original's."""
TEMPERATURE = 2.0
"""Of distillation."""


@dataclass(frozen=True)
class Run:
    """A reader of the experiment: a row has these values, and no other row has them all."""

    shape: Shape
    way: str = "converted"
    percent: int = 0
    seed: int = 0
    rate: float = 0.0
    temperature: float | None = None

    @property
    def key(self) -> dict[str, Any]:
        values = asdict(self)
        return {**values.pop("shape"), **values}

    @property
    def name(self) -> str:
        of_teacher = "" if self.temperature is None else f"-{self.temperature:g}"
        return f"{self.way}-{self.shape.name}-{self.percent}-{self.seed}-{self.rate:g}{of_teacher}"


def plan(options: argparse.Namespace) -> Iterator[Run]:
    """All conversions, then seed after seed, so that those that are done are complete."""
    upcycled = Shape(options.every, options.kv_heads or None, kv_heads_from=options.kv_heads_from)
    yield from map(Run, dict.fromkeys((*SHAPES, upcycled)))
    for seed, way in itertools.product(options.seeds, options.ways):
        shape = Shape() if way == "continued" else upcycled
        temperature = options.temperature if way == "distilled" else None
        for percent in options.percents or PLAN[way]:
            yield Run(shape, way, percent, seed, options.rate, temperature)


def main() -> None:
    parser = argparse.ArgumentParser(description="Convert a trained FiD, repair it, and judge each stage.")
    parser.add_argument("--data", type=Path, required=True, help="folder with corpus, qa and retrieved")
    parser.add_argument("--corpus", type=Path, required=True, help="a built corpus of the same passages")
    parser.add_argument("--original", default=ORIGINAL, help="the trained FiD")
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=["uptrained", "distilled"])
    parser.add_argument("--percents", nargs="*", type=int, help="of the original's steps, for all ways")
    parser.add_argument("--every", type=int, default=UPCYCLED.every, help="K of the reader to repair")
    parser.add_argument("--kv-heads", type=int, default=UPCYCLED.kv_heads, help="of it; 0 keeps all")
    parser.add_argument("--kv-heads-from", choices=["svd", "mean"], default=UPCYCLED.kv_heads_from)
    parser.add_argument("--rate", type=float, default=RATE, help="of learning, at its highest")
    parser.add_argument("--temperature", type=float, default=TEMPERATURE, help="of distillation")
    parser.add_argument("--set", nargs="*", default=[], help="changes of the recipes, key=value")
    parser.add_argument("--limit", type=int, help="questions of each dataset; all unless given")
    parser.add_argument("--runs", type=Path, default=Path("runs/upcycling"))
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "upcycling.jsonl", help="rows go here")
    options = parser.parse_args()
    asked = judging.gold(options.data, options.corpus, options.limit)
    found = list(rows.read(options.to))
    for run in plan(options):
        if not any(run.key.items() <= row.items() for row in found):
            reader, cost = _reader(options, run)
            outcome = {**run.key, **cost, "context": "gold", **judging.judge_all(reader, asked)}
            rows.append(options.to, rows.row("upcycling", **outcome))


def _reader(options: argparse.Namespace, run: Run) -> tuple[Reader, dict[str, Any]]:
    """The reader, and what its training took."""
    if run.way == "converted":
        return load(options.original, **run.shape.knobs)[0], {"steps": 0}
    trained = training.train(training.RECIPES / WAYS[run.way], [*_changes(options, run), *options.set])
    return trained.reader, trained.cost


def _changes(options: argparse.Namespace, run: Run) -> list[str]:
    steps = round(training.steps_of(*ORIGINAL_RECIPES) * run.percent / 100)
    changes = [
        f"output={options.runs / run.name}", f"data={options.data}", f"seed={run.seed}",
        f"reader.start={_start(options, run.shape)}", f"stages.0.steps={steps}", f"optimiser.rate={run.rate}",
        *(f"stages.0.{name}={value}" for name, value in STAGE.items()),
        "evaluation={}",  # judged in the end, by all questions
    ]  # fmt: skip
    if run.temperature is None:
        return changes
    taught = [f"teacher.reader={options.original}", f"stages.0.distil_temperature={run.temperature}"]
    return [*changes, *taught]


def _start(options: argparse.Namespace, shape: Shape) -> str:
    """Where the converted reader lies; the original where nothing is converted."""
    if shape == Shape():
        return str(options.original)
    start = Path(options.runs, f"converted-{shape.name}")
    if not (start / "config.json").exists():
        load(options.original, **shape.knobs)[0].save_pretrained(start)
    return str(start)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
