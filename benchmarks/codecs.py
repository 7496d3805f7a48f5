"""Answer with a memory in each codec: bytes, reconstruction error, EM and F1.

    python benchmarks/codecs.py --reader LUMEN --data DATA --corpus DIR [--others 10000]

A corpus of the gold passages of the development questions and of some others gets a memory in each codec, as
`fidkit memory build` makes it, and the questions are answered with their gold passage from it. The error is
that of what the store gives, relative to the memory in float32: the root of the mean square of the
difference over that of the memory. Rows go to benchmarks/results/codecs.jsonl; `python benchmarks/render.py`
renders them into docs/lumen.md.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import islice
from pathlib import Path

import judging
import memories
import rows
import torch

from fidkit import Corpus, Reader
from fidkit.engine.runner import Runner
from fidkit.passages.token_cache import passage_key
from fidkit.records import CODECS


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer with a memory in each codec.")
    parser.add_argument("--reader", required=True, help="with memory layers")
    parser.add_argument("--data", type=Path, required=True, help="folder with qa")
    parser.add_argument("--corpus", type=Path, required=True, help="a built corpus")
    parser.add_argument("--others", type=int, default=10_000, help="passages beside the gold ones")
    parser.add_argument("--limit", type=int, help="questions of each set")
    parser.add_argument("--pq-codes", type=int, default=4096)
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "codecs.jsonl", help="rows go here")
    given = parser.parse_args()
    runner = Runner(Reader.from_pretrained(given.reader), "float32")
    asked = judging.gold(given.data, given.corpus, given.limit)
    with tempfile.TemporaryDirectory() as folder, Corpus.open(given.corpus) as corpus:
        wanted = [passage for of_set in asked.values() for _, passages in of_set for passage in passages]
        small = memories.make_corpus([*wanted, *islice(corpus, given.others)], Path(folder))
        measure(runner, asked, small, given)


def measure(runner: Runner, asked: dict[str, judging.Asked], corpus: Path, given: argparse.Namespace) -> None:
    exact: list[torch.Tensor] = []
    keys = [
        passage_key(passage) for of_set in asked.values() for _, passages in of_set for passage in passages
    ]
    for codec in CODECS:
        with memories.stored(corpus, given.reader, codec, given.pq_codes) as store:
            stored = store.fetch(store.find(keys), torch.float32).result().memory_XD
            exact = exact or [stored]  # the first codec, float32
            error = float((stored - exact[0]).square().mean().sqrt() / exact[0].square().mean().sqrt())
            reports = {name: judging.answered(runner, of_set, store) for name, of_set in asked.items()}
            scores = {name: {"n": r.n, "em": r.em, "f1": r.f1} for name, r in reports.items()}
            row = rows.row(
                "codecs", codec=codec, reader=Path(given.reader).name, width=store.info.width,
                bytes_a_token=store.info.bytes / store.info.tokens, error=error,
                pq_codes=given.pq_codes if codec == "pq" else None, **scores,
            )  # fmt: skip
        rows.append(given.to, row)


if __name__ == "__main__":
    main()
