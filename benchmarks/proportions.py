"""Train LUMEN at several live proportions from one start, with several seeds, and judge them.

    python benchmarks/proportions.py --data DATA --corpus DIR [--start pocket] [--seeds 1 2 3]

Every reader is the start with its encoder split, trained by recipes/lumen.toml. Starts are the bundled
reader, which has learnt to answer with its whole encoder, and one that has only seen self-supervised
questions (recipes/cloze.toml). Readers go to runs/proportions, rows to benchmarks/results/proportions.jsonl;
what has a row is not done again, and a run that was cut off goes on. `python benchmarks/render.py` renders
the rows into docs/lumen.md.
"""

from __future__ import annotations

import argparse
import itertools
from fractions import Fraction
from pathlib import Path

import judging
import rows
import torch
import training

from fidkit.config import whole_layers
from fidkit.convert import load
from fidkit.reader import Reader

RECIPE = training.RECIPES / "lumen.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and judge LUMEN at several live proportions.")
    parser.add_argument("--data", type=Path, required=True, help="folder with corpus, qa and retrieved")
    parser.add_argument("--corpus", type=Path, required=True, help="a built corpus of the same passages")
    parser.add_argument("--start", default="pocket", help="reader whose encoder is split")
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--proportions", nargs="*", default=["1", "1/2", "1/4", "0"])
    parser.add_argument("--set", nargs="*", default=[], help="changes of the recipe, key=value")
    parser.add_argument("--runs", type=Path, default=Path("runs/proportions"))
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "proportions.jsonl", help="rows go here")
    options = parser.parse_args()
    asked = judging.gold(options.data, options.corpus)
    for seed, proportion in itertools.product(options.seeds, map(Fraction, options.proportions)):
        found = {
            (row.get("start", "pocket"), row["seed"], row["alpha"], row["trained"])
            for row in rows.read(options.to)
        }
        for trained in (False, True):
            if (_name(options.start), seed, str(proportion), trained) in found:
                continue
            reader, steps = _reader(options, seed, proportion, trained)
            row = rows.row(
                "proportions", start=_name(options.start), seed=seed, alpha=str(proportion),
                live_layers=reader.config.live, trained=trained, steps=steps, context="gold",
            )  # fmt: skip
            rows.append(options.to, row | judging.judge_all(reader, asked))


def _name(start: str) -> str:
    """Of a bundled reader, or of the run that a reader is the last of."""
    path = Path(start)
    return path.parent.name if path.name in ("last", "best") else path.name


def _reader(
    options: argparse.Namespace, seed: int, proportion: Fraction, trained: bool
) -> tuple[Reader, int]:
    """The reader with its encoder split, as it starts or after its training; and steps of training."""
    name = f"{proportion.numerator}-{proportion.denominator}"
    runs = options.runs / _name(options.start)
    start = runs / f"start-{name}"
    if not (start / "config.json").exists():
        split(options.start, proportion).save_pretrained(start)
    if not trained:
        return Reader.from_pretrained(start), 0
    changes = [f"output={runs}/{name}-{seed}", f"seed={seed}", f"reader.start={start}"]
    end = training.train(RECIPE, [*changes, f"data={options.data}", *options.set])
    return end.reader, end.recipe.steps


def split(source: str, proportion: Fraction) -> Reader:
    """A trained reader with this proportion of its encoder live; with none, the question stands by itself."""
    layers = Reader.from_pretrained(source).config.encoder.layers
    reader, _ = load(source, live_layers=whole_layers(layers, proportion))
    if not proportion:
        changed = Reader(reader.config.replace(question_in_context="once"), reader.tokenizer)
        changed.load_state_dict(reader.state_dict())
        return changed.eval()
    return reader


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
