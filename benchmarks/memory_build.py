"""Builds the memory of a corpus and compares its rate with the bare encoder's.

python benchmarks/memory_build.py CORPUS --reader R --to EMPTY [--codec bf16] [--passages 2000]

Both run in this process, on the same batches, in turns: the encoder alone on some units, then the build of
these units with everything that belongs to it (reading units, codec, checksums, writing, fsync, commit).
What comes before (reading the corpus, tokenising) is timed apart and counted in `share_of_all`. The row goes
to benchmarks/results/memory-build.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import rows
import torch

from fidkit.memory import MemoryStore
from fidkit.passages import Corpus
from fidkit.precompute import BuildForecast, MemoryReport, Options, build
from fidkit.precompute.plan import load_plan
from fidkit.precompute.unit import read_unit
from fidkit.precompute.work import Job, Worker, batches, padded


class Planned(Exception):
    """Ends a build when its plan is made."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="a built corpus; it is left as it is")
    parser.add_argument("--reader", required=True)
    parser.add_argument("--to", type=Path, required=True, help="directory that does not exist yet")
    parser.add_argument("--codec", default="bf16")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--shard-mb", type=int, default=64)
    parser.add_argument("--passages", type=int, help="of the corpus, from the first; all if absent")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--results", type=Path, default=rows.RESULTS / "memory-build.jsonl", help="the row goes here"
    )
    given = parser.parse_args()
    options = Options(codec=given.codec, precision=given.precision, shard_mb=given.shard_mb)
    corpus = some_of(given.corpus, given.to, given.passages)
    measured = measure(corpus, given.reader, options, given.repeats)
    row = rows.row(
        "memory-build", reader=Path(given.reader).name, codec=given.codec, shard_mb=given.shard_mb,
        load=os.getloadavg()[0], threads=torch.get_num_threads(), **measured,
    )  # fmt: skip
    rows.append(given.results, row)


def some_of(corpus: Path, to: Path, count: int | None) -> Path:
    """A corpus of the first passages, in a new directory."""
    to.mkdir(parents=True)
    with Corpus.open(corpus) as source, (to / "passages.jsonl").open("w", encoding="utf-8") as out:
        for number, passage in enumerate(source):
            if number == count:
                break
            out.write(json.dumps({"id": passage.id, "title": passage.title, "text": passage.text}) + "\n")
    Corpus.build(to / "passages.jsonl", to / "corpus").close()
    return to / "corpus"


def measure(corpus: Path, reader: str, options: Options, repeats: int) -> dict[str, Any]:
    """Seconds of the bare encoder, of encoding in a build, and of the whole build, `repeats` times."""
    forecasts: list[BuildForecast] = []
    reports: list[MemoryReport] = []
    bare: list[float] = []
    for _ in range(repeats):
        shutil.rmtree(corpus / "memory", ignore_errors=True)
        bare.append(encoder_alone(corpus, reader, options))
        shutil.rmtree(corpus / "memory")
        with Corpus.open(corpus) as opened:
            report = build(opened, reader, options, agree=forecasts.append)
        assert report is not None
        reports.append(report)
    with MemoryStore.open(corpus) as store:
        on_disk = store.info.bytes
    encoding, whole = [each.encode_s for each in reports], [each.seconds for each in reports]
    last, alone, built = reports[-1], statistics.median(bare), statistics.median(encoding)
    return {
        "passages": last.passages,
        "tokens": last.tokens,
        "precision": last.identity.precision,
        "bytes_predicted": forecasts[0].bytes,
        "bytes_on_disk": on_disk,
        "seconds_predicted": forecasts[0].seconds,
        "bare_s": bare,
        "encode_s": encoding,
        "whole_s": whole,
        "tokens_a_second": last.tokens / built,
        "share_of_bare": alone / built,
        "share_of_all": alone / statistics.median(whole),
    }


def encoder_alone(corpus: Path, reader: str, options: Options) -> float:
    """Seconds that the encoder takes for all batches of the plan, after a first one."""

    def stop(forecast: BuildForecast) -> None:
        raise Planned

    with suppress(Planned), Corpus.open(corpus) as opened:
        build(opened, reader, options, agree=stop)
    units = corpus / "memory" / "units"
    plan = load_plan(units)
    assert plan is not None
    worker = Worker(Job(reader, str(corpus / "memory"), plan.identity))
    ready = [read_unit(units / unit.name) for unit in plan.units]
    work = [
        padded(unit, some) for unit in ready for some in batches(unit.lengths.tolist(), unit.batch_tokens)
    ]
    worker.encode(*work[0])
    began = time.monotonic()
    for batch in work:
        worker.encode(*batch)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
