"""Measure readers in 8 bits beside what the cost model says of them.

    python benchmarks/predictions.py --threads 2 [--rounds 5] [--only WORKLOAD ...]

Rows go to benchmarks/results/predictions-int8.jsonl; what has one with as many threads isn't measured again.
`python benchmarks/render.py` renders the newest of each into docs/cost.md.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import rows
import torch

from fidkit.bench.outcome import make_rows
from fidkit.bench.questions import synthetic
from fidkit.bench.run import Request, measure
from fidkit.cost import Workload
from fidkit.preset import named

FULL = Workload(passages=40, passage_tokens=208, question_tokens=48, output_tokens=32)


@dataclass(frozen=True)
class Measurement:
    """Readers that are measured in the same rounds."""

    presets: tuple[str, ...]
    workload: Workload


MEASUREMENTS = {
    "full": Measurement(("fid-base", "fido-base-base", "lumen-fido-base-base"), FULL),
    "light": Measurement(("fid-light-base", "fid-lsa-base"), FULL.replace(passages=20)),
    "few": Measurement(("fid-base", "fido-base-base"), FULL.replace(passages=10)),
    "batch": Measurement(("fido-base-base", "lumen-base"), FULL.replace(passages=10, questions=4)),
    "short": Measurement(
        ("fid-base", "lumen-fido-base-base"),
        FULL.replace(passage_tokens=80, question_tokens=16, output_tokens=64),
    ),
    "small": Measurement(("fid-small", "fido-small-large", "lumen-small"), FULL),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure readers in 8 bits beside their predictions.")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of PyTorch and the kernels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    parser.add_argument(
        "--to", type=Path, default=rows.RESULTS / "predictions-int8.jsonl", help="rows go here"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.only:
        measurement = MEASUREMENTS[name]
        done = set(_measured(options.to, name, options.threads))
        if missing := [preset for preset in measurement.presets if preset not in done]:
            request = Request(
                presets=missing,
                precisions=["int8"],
                rounds=options.rounds,
                output_tokens=measurement.workload.output_tokens,
            )
            questions = synthetic(measurement.workload, min(named(p).vocabulary_size for p in missing))
            for row in make_rows(measure(request, questions, Silent())):
                rows.append(options.to, row | {"workload": name})


def _measured(path: Path, workload: str, threads: int) -> Iterator[str]:
    return (
        row["preset"] for row in rows.read(path) if (row["workload"], row["threads"]) == (workload, threads)
    )


class Silent:
    """Progress that nobody watches."""

    def advance(self, n: int = 1) -> None:
        pass

    def describe(self, text: str) -> None:
        pass


if __name__ == "__main__":
    main()
