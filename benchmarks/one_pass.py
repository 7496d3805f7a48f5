"""Vectors and memory of passages in one pass: seconds against two passes, and whether search is as good.

    python benchmarks/one_pass.py speed --data DATA [--passages 2000] [--rounds 2]
    python benchmarks/one_pass.py recall --data DATA [--passages 4000] [--asked 300]

Both take passages of DATA/corpus. `speed` makes a reader of MiniLM, half of whose layers are memory, and
builds a corpus with vectors and this reader's memory, in one pass and in two, in turns; reading, indexing and
opening the reader are counted in both. `recall` compares vectors of title and text as one text, which is what
two passes make, with those of title and text apart, as the reader has them: for some questions of each set,
percent with an answer among the first k passages by meaning alone. Rows go to
benchmarks/results/one-pass.jsonl; `python benchmarks/render.py` renders them into docs/memory.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import retrieval
import rows

from fidkit import Corpus, convert, precompute
from fidkit.engine.meaning import minilm, minilm_apart
from fidkit.evaluate.metrics import recall_at
from fidkit.native.threads import threads
from fidkit.precompute import Options
from fidkit.precompute.onepass import one_pass
from fidkit.questions.files import Question
from fidkit.types import Passage

DEPTHS = (1, 5, 20)
COMPARED = 256
PACKAGES = ("fidkit", "numpy", "torch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "recall"))
    parser.add_argument("--data", type=Path, required=True, help="folder with corpus and qa")
    parser.add_argument("--passages", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--asked", type=int, default=300, help="questions of each set, for recall")
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "one-pass.jsonl", help="rows go here")
    given = parser.parse_args()
    made = recall(given) if given.what == "recall" else speed(given)
    for record in made:
        rows.append(given.to, rows.row("one-pass", PACKAGES, of=given.what, threads=threads(), **record))


def speed(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Seconds of every round, and how alike vectors are that were made in one pass and by themselves."""
    chosen, _ = retrieval.chosen(given.data, given.passages)
    with tempfile.TemporaryDirectory() as work:
        source, reader = Path(work) / "passages.jsonl", Path(work) / "minilm-lumen"
        records = [{"id": p.id, "title": p.title, "text": p.text} for p in chosen.values()]
        source.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        convert.load("minilm", live_layers="1/2")[0].save_pretrained(reader, dtype="int8")
        one, two = list[float](), list[float]()
        for number in range(given.rounds):
            began = time.perf_counter()
            in_one(source, Path(work) / f"one-{number}", reader)
            one.append(time.perf_counter() - began)
            began = time.perf_counter()
            in_two(source, Path(work) / f"two-{number}", reader)
            two.append(time.perf_counter() - began)
        some = list(chosen.values())[:COMPARED]
        with one_pass(Path(work) / "one-0", str(reader)) as once:
            cosines_N = (once.encoder.of_passages(some) * minilm_apart().of_passages(some)).sum(1)
    alike = {"n": len(some), "least": float(cosines_N.min()), "median": float(np.median(cosines_N))}
    yield {"passages": given.passages, "one_s": one, "two_s": two, "cosines": alike}


def in_one(source: Path, to: Path, reader: Path) -> None:
    with (
        one_pass(to, str(reader)) as once,
        Corpus.build(source, to, encoder=once.source, vectors=True) as corpus,
    ):
        once.finish(corpus)


def in_two(source: Path, to: Path, reader: Path) -> None:
    with Corpus.build(source, to, encoder=minilm, vectors=True) as corpus:
        precompute.build(corpus, reader, Options(device="cpu"))


def recall(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row a set."""
    retrieval.QUESTIONS = given.asked
    chosen, asked = retrieval.chosen(given.data, given.passages)
    passages = list(chosen.values())
    made = {
        "together": minilm().of_passages(passages),
        "apart": minilm_apart().of_passages(passages),
    }
    for name, of_set in asked.items():
        found = {form: recalls(of_set, vectors, passages) for form, vectors in made.items()}
        yield {"set": name, "n": len(of_set), "passages": len(passages), "recall": found}


def recalls(
    asked: Sequence[Question], vectors_ND: np.ndarray, passages: Sequence[Passage]
) -> dict[str, float]:
    """Percent by depth, by the products of all vectors."""
    scores_QN = minilm().of_questions([question.question for question in asked]) @ vectors_ND.T
    sums = dict.fromkeys(DEPTHS, 0)
    for question, scores_N in zip(asked, scores_QN, strict=True):
        best = np.argsort(-scores_N, kind="stable")[: max(DEPTHS)]
        texts = (f"{passages[at].title} {passages[at].text}" for at in best)
        for depth, right in recall_at(DEPTHS, question.answers, texts).items():
            sums[depth] += right
    return {str(depth): 100 * count / len(asked) for depth, count in sums.items()}


if __name__ == "__main__":
    main()
