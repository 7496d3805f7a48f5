"""`python benchmarks/paper.py NAME`: measure until it is done or time is up."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rows import RESULTS

from fidkit.errors import FidkitError
from paper.experiments import EXPERIMENTS
from paper.record import Book, Deadline, say
from paper.session import Session
from paper.sizes import SIZES

BATCH = {"cpu": 1, "cuda": 24}
"""Questions at a time where the experiment doesn't say; the paper's largest batch of FiD on its TPU is 24."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device cuda: PyTorch sees no CUDA device here; take --device cpu")
    session = Session(
        experiment=options.name,
        size_name=options.size,
        device=torch.device(options.device),
        batch=options.batch or BATCH[options.device],
        rounds=options.rounds,
    )
    book = Book(options.out / f"paper-{options.name}.jsonl")
    try:
        left = measure(session, book, Deadline(options.limit_minutes))
    except FidkitError as error:
        sys.exit(str(error))
    say(f"{left} of {len(EXPERIMENTS[options.name](session))} units left, {book.path}")
    if left:
        say("call again to go on; what was left out for want of memory needs a larger machine")


def measure(session: Session, book: Book, deadline: Deadline) -> int:
    """Run the units of an experiment that have no rows yet; returns how many still lack some."""
    units = EXPERIMENTS[session.experiment](session)
    began = False
    for unit in units:
        if not unit.missing(session, book):
            continue
        # The first one always begins: a guess that is too high must not keep it from ever beginning.
        if deadline.over or (began and not deadline.allows(unit.expected_s(session))):
            break
        began = True
        unit.run(session, book, deadline)
    return sum(unit.missing(session, book) > 0 for unit in units)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure a table or figure of the FiDO paper.")
    parser.add_argument("name", choices=EXPERIMENTS)
    parser.add_argument("--size", choices=SIZES, default="base", help="what stands for the paper's base")
    parser.add_argument("--device", choices=BATCH, default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="rows go here")
    parser.add_argument("--batch", type=int, help="questions at a time; 1 on a CPU, 24 on a GPU")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--limit-minutes", type=float, default=9, metavar="M", help="stop before")
    return parser
