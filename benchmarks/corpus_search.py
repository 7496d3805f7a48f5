"""Builds a corpus if asked, then measures answer recall and the latency of search; prints one JSON row.

python benchmarks/corpus_search.py DIR dev.nq.jsonl.gz dev.webq.jsonl.gz [--build SRC...] [--timed 1000]

Recall: some passage among the first k, its title counted, holds an answer (see `has_answer`).
Latency: `Corpus.search(question, k=40)` with texts, on questions drawn evenly from all files.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import rows

from fidkit.evaluate.metrics import has_answer
from fidkit.passages import Corpus
from fidkit.questions.files import Question, read_questions

DEPTHS = (1, 5, 20, 40)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("questions", type=Path, nargs="*", help="FiD JSONL(.gz): question, answers")
    parser.add_argument("--build", type=Path, nargs="+", metavar="SRC", help="build the corpus first")
    parser.add_argument("--timed", type=int, default=1000, help="questions whose search is timed")
    arguments = parser.parse_args()
    row = rows.row("corpus_search", load=os.getloadavg()[0])
    if arguments.build:
        row["build"] = built(arguments.build, arguments.corpus)
    with Corpus.open(arguments.corpus) as corpus:
        sets = {
            path.name.removesuffix(".gz").removesuffix(".jsonl"): list(read_questions(path))
            for path in arguments.questions
        }
        row["passages"] = len(corpus)
        row["latency_ms"] = latency(corpus, sets, arguments.timed)
        row["recall"] = {name: recall(corpus, records) for name, records in sets.items()}
    print(json.dumps(row))


def built(sources: list[Path], directory: Path) -> dict[str, Any]:
    """Figures of a build; the peak is that of this process up to here."""
    with Corpus.build(sources, directory) as corpus:
        assert corpus.report is not None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {**corpus.report.to_json(), "peak_bytes": peak, "bytes_on_disk": corpus.info().bytes_on_disk}


def latency(corpus: Corpus, sets: dict[str, list[Question]], count: int) -> dict[str, float]:
    """Milliseconds over `count` questions after a warm-up of 50 others."""
    questions = [record.question for records in sets.values() for record in records]
    random.Random(0).shuffle(questions)
    for question in questions[count : count + 50]:
        corpus.search(question, k=40)
    times = []
    for question in questions[:count]:
        began = time.perf_counter()
        corpus.search(question, k=40)
        times.append(1000 * (time.perf_counter() - began))
    if len(times) < 2:
        return {}
    cuts = statistics.quantiles(times, n=20)
    return {"n": len(times), "median": statistics.median(times), "p95": cuts[18], "max": max(times)}


def recall(corpus: Corpus, records: list[Question]) -> dict[str, float]:
    """Percent of questions with an answer among the first k passages, by k."""
    ranks = [first_hit(corpus, record) for record in records]
    shares = {str(k): round(100 * sum(rank <= k for rank in ranks) / len(ranks), 2) for k in DEPTHS}
    return {"n": len(ranks), **shares}


def first_hit(corpus: Corpus, record: Question) -> int:
    """Rank, from 1, of the first passage with an answer; one more than searched for when none has."""
    for rank, hit in enumerate(corpus.search(record.question, k=max(DEPTHS)), start=1):
        if has_answer(record.answers, f"{hit.passage.title} {hit.passage.text}"):
            return rank
    return max(DEPTHS) + 1


if __name__ == "__main__":
    main()
