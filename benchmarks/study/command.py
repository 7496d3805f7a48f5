"""`python benchmarks/study.py TABLE`: train and judge what has no row yet."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import judging
import rows
import torch

from fidkit import native
from fidkit.engine.cpu.encoder import NativeEncoder
from fidkit.nn.encoder import EncoderLayers, Run
from study.runs import trained
from study.states import States
from study.variants import START, TABLES, Variant


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    sets = judging.gold(options.data, options.corpus, options.limit)
    changes = [
        f"data={options.data}", f"passages=[{str(options.corpus.absolute())!r}]",
        f"stages.0.steps={options.steps}", *options.set,
    ]  # fmt: skip
    for seed, variant in itertools.product(options.seeds, TABLES[options.table]):
        if options.only and variant.name not in options.only:
            continue
        if not any(key(variant, seed, options).items() <= row.items() for row in rows.read(options.to)):
            folder, states = options.runs / f"{variant.name}-{seed}", States(options.states, encoding())
            outcome = trained(variant, seed, changes, states, sets, folder)
            rows.append(options.to, rows.row("study", **key(variant, seed, options), **outcome))


def encoding() -> Run:
    """How frozen layers are run: anew for each reader, since kernels keep the layers that they have run."""
    kernels = native.kernels()
    return EncoderLayers.__call__ if kernels is None else NativeEncoder(kernels)


def key(variant: Variant, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """A row has these values, and no other row has them all."""
    return {
        "variant": variant.name, "seed": seed, "steps": options.steps, "start": START, "set": options.set,
    }  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train and judge the readers of one table.")
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--data", type=Path, required=True, help="folder with qa")
    parser.add_argument("--corpus", type=Path, required=True, help="a built corpus of the passages")
    parser.add_argument("--states", type=Path, default=Path("runs/study/states"), help="kept between runs")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=240, help="of training")
    parser.add_argument("--limit", type=int, default=500, help="questions of each dataset to judge by")
    parser.add_argument("--only", nargs="*", default=[], help="variants; all of the table unless given")
    parser.add_argument("--set", nargs="*", default=[], help="changes of the recipe, key=value")
    parser.add_argument("--runs", type=Path, default=Path("runs/study"))
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "study.jsonl", help="rows go here")
    return parser
