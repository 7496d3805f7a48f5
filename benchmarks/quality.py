"""Measure the bundled reader's quality: every setting of the table, one `fidkit evaluate` each.

    python benchmarks/quality.py --data DATA --corpus DIR [--reader pocket] [--only squad/gold ...]
    python benchmarks/quality.py --data DATA --corpus DIR --only squad/gold \
        --precisions float32 bfloat16 int8 --to benchmarks/results/quality-precision.jsonl

Appends rows to benchmarks/results/quality.jsonl; settings that have a row for this reader are skipped, so
an interrupted run goes on. `python benchmarks/render.py` renders the rows into README and model card.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rows

from fidkit import Reader


@dataclass(frozen=True)
class Setting:
    """One measurement; `limit` keeps controls and many passages affordable."""

    dataset: str
    context: str
    passages: int
    limit: int | None = None

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.context}" + (f"-{self.passages}" if self.passages > 1 else "")


def settings() -> list[Setting]:
    """The passage with the answer and its controls first, then what a search finds, with its controls."""
    wiki, opened = ("squad", "newwiki"), ("nq", "triviaqa", "webq")
    plan = [Setting(d, "gold", 1) for d in wiki]
    plan += [Setting(d, "gold", 1) for d in ("qamr", "fairytaleqa", "cuad", "covidqa", "tatqa")]
    plan += [Setting(d, c, 1, 300) for c in ("foreign-gold", "none") for d in wiki]
    plan += [Setting("unanswerable", "near", 1, 300)]
    plan += [Setting("everyday", "gold", 1), Setting("everyday", "retrieved", 5)]
    plan += [Setting("everyday.absent", "retrieved", 5)]
    plan += [Setting(d, "retrieved", 1) for d in (*wiki, *opened)]  # 10,342 answers, for loops and places
    for n, limit in ((5, 500), (10, 300), (20, 200), (40, 100)):
        plan += [Setting(d, "retrieved", n, limit) for d in (*wiki, *opened)]
        plan += [Setting(d, "foreign", n, limit // 2) for d in wiki if n < 40]
    return plan


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a reader's quality in every setting of the table.")
    parser.add_argument("--data", type=Path, required=True, help="folder with qa/dev.*.jsonl.gz")
    parser.add_argument(
        "--everyday", type=Path, help="what recipes/everyday/join.py wrote; DATA/everyday if absent"
    )
    parser.add_argument("--corpus", type=Path, required=True, help="a built corpus")
    parser.add_argument("--reader", default="pocket")
    parser.add_argument("--only", nargs="*", default=[], help="settings such as squad/gold or nq/retrieved-5")
    parser.add_argument("--questions", type=int, help="of each setting, instead of its own number")
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "quality.jsonl", help="rows go here")
    parser.add_argument("--precisions", nargs="*", default=["float32"], help="also bfloat16 and int8")
    options = parser.parse_args()
    fingerprint = Reader.from_pretrained(options.reader).fingerprint()[:16]
    found = [record for record in rows.read(options.to) if record["fingerprint"] == fingerprint]
    done = {(record["setting"], record["precision"]) for record in found}
    for setting, precision in itertools.product(settings(), options.precisions):
        if (setting.name, precision) in done or (options.only and setting.name not in options.only):
            continue
        report = measure(setting, precision, options)
        rows.append(
            options.to,
            rows.row(
                "quality", setting=setting.name, dataset=setting.dataset, fingerprint=fingerprint, **report
            ),
        )


def measure(setting: Setting, precision: str, options: argparse.Namespace) -> dict[str, Any]:
    """The JSON that `fidkit evaluate` prints."""
    command = [sys.executable, "-m", "fidkit", "evaluate", "--json", "--reader", options.reader]
    command += ["--precision", precision]
    command += ["--data", str(file_of(setting.dataset, options.data, options.everyday))]
    command += ["--corpus", str(options.corpus)]
    command += ["--context", setting.context, "--passages", str(setting.passages)]
    limit = options.questions or setting.limit
    command += ["--limit", str(limit)] if limit else []
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return result


def file_of(dataset: str, data: Path, everyday: Path | None) -> Path:
    """Where its development questions lie."""
    name, _, kind = dataset.partition(".")
    if name == "everyday":
        return (everyday or data / "everyday") / (f"dev.{kind}.jsonl" if kind else "dev.jsonl")
    return data / "qa" / f"dev.{dataset}.jsonl.gz"


if __name__ == "__main__":
    main()
