"""`python benchmarks/study.py TABLE`: train and judge what has no row yet."""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import judging
import rows
import torch
from paper.record import Deadline

from fidkit import checkpoint, native
from fidkit.bench import ceilings
from fidkit.checkpoint.shared import sha256
from fidkit.engine.cpu.encoder import NativeEncoder
from fidkit.errors import FidkitError
from fidkit.nn.encoder import EncoderLayers, Run
from study.ranked import Ranked
from study.remembered import Remembered
from study.runs import trained
from study.states import States
from study.variants import OTHERS, SETS, SHIPPED, START, TABLES, Shipped, Variant

CPU = "cpu"
SETTINGS: dict[str, Callable[[Path, Path, int, ExitStack], Remembered | Ranked]] = {
    "codecs": Remembered,
    "reranking": Ranked,
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    if options.table in SHIPPED:
        _judge(SHIPPED[options.table], options)
    else:
        _train(TABLES[options.table], options)


def _train(variants: Sequence[Variant], options: argparse.Namespace) -> None:
    sets = judging.gold(options.data, options.corpus, options.limit, (*SETS, *OTHERS))
    changes = [f"data={options.data}", f"passages=[{str(options.corpus.absolute())!r}]", *options.set]
    deadline, failed = Deadline(options.limit_minutes), 0
    run = encoding() if options.device == CPU else EncoderLayers.__call__
    for seed, variant in itertools.product(options.seeds, variants):
        wanted = key(variant.name, options, seed=seed)
        if _is_wanted(variant.name, wanted, options):
            if deadline.over:
                sys.exit("Stopped after --limit-minutes; the same command goes on with what has no row yet.")
            folder, states = options.runs / f"{variant.name}-{seed}", States(options.states, run)
            try:
                outcome = trained(
                    variant, seed, options.steps, changes, states, sets, folder, options.start, options.device
                )
            except FidkitError as error:  # a training that diverged; others needn't
                print(f"{variant.name}, seed {seed}, has no row: {error}", file=sys.stderr, flush=True)
                failed += 1
                continue
            record = rows.row("study", **wanted, **outcome)
            if options.device != CPU:
                record["hardware"]["device"] = ceilings.describe(torch.device(options.device))
            rows.append(options.to, record)
    if failed:
        sys.exit(f"Trainings without a row: {failed}. Other seeds may have one (--seeds).")


def _judge(several: Sequence[Shipped], options: argparse.Namespace) -> None:
    """Readers as they come along: nothing is trained, and there are no seeds."""
    with ExitStack() as stack:
        setting = SETTINGS[options.table](options.data, options.corpus, options.limit, stack)
        for one in several:
            wanted = key(one.name, options, steps=0, **begun(one.reader))
            if _is_wanted(one.name, wanted, options):
                rows.append(options.to, rows.row("study", **wanted, **setting.judged(one)))


def _is_wanted(name: str, wanted: dict[str, Any], options: argparse.Namespace) -> bool:
    if options.only and name not in options.only:
        return False
    return not any(wanted.items() <= row.items() for row in rows.read(options.to))


def encoding() -> Run:
    """How frozen layers are run: anew for each reader, since kernels keep the layers that they have run."""
    kernels = native.kernels()
    return EncoderLayers.__call__ if kernels is None else NativeEncoder(kernels)


def key(name: str, options: argparse.Namespace, **more: Any) -> dict[str, Any]:
    """A row has these values, and no other row has them all."""
    begin = begun(options.start)
    return {"variant": name, "seed": 0, "steps": options.steps, **begin, "set": options.set, **more}


def begun(reader: str) -> dict[str, str]:
    """A reader by its name and its weights, which another of this name doesn't have."""
    directory = checkpoint.locate(reader)
    return {"start": directory.name, "weights": sha256(directory / checkpoint.WEIGHTS)[:12]}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train and judge the readers of one table.")
    parser.add_argument("table", choices=[*TABLES, *SHIPPED])
    parser.add_argument("--data", type=Path, required=True, help="folder with qa")
    parser.add_argument("--corpus", type=Path, required=True, help="a built corpus of the passages")
    parser.add_argument("--states", type=Path, default=Path("runs/study/states"), help="kept between runs")
    parser.add_argument(
        "--start", default=START, help="the reader that all are made of: a directory or a name"
    )
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=240, help="of training")
    parser.add_argument("--limit", type=int, default=500, help="questions of each dataset to judge by")
    parser.add_argument("--only", nargs="*", default=[], help="variants; all of the table unless given")
    parser.add_argument("--set", nargs="*", default=[], help="changes of the recipe, key=value")
    parser.add_argument("--runs", type=Path, default=Path("runs/study"))
    parser.add_argument("--device", default=CPU, help="to train on, such as cuda")
    parser.add_argument(
        "--limit-minutes", type=float, default=math.inf, metavar="M", help="train no other reader after that"
    )
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "study.jsonl", help="rows go here")
    return parser
