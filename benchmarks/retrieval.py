"""Search by words, by meaning and by both: recall on development questions, speed, the scan beside faiss.

    python benchmarks/retrieval.py recall --data DATA [--passages 50000] [--work DIR]
    python benchmarks/retrieval.py speed --data DATA [--passages 50000] [--work DIR]
    python benchmarks/retrieval.py scan
    python benchmarks/retrieval.py folder
    python benchmarks/retrieval.py answers --data DATA [--passages 50000] [--work DIR] [--reader pocket]

`recall`, `speed` and `answers` index passages of DATA/corpus: those that are known to hold an answer to 300
questions of each set, and others by chance up to `--passages`. What is encoded is kept in DIR, and a run
that was ended goes on there. Recall is that of `fidkit evaluate`: one of the first k passages, with title,
has an answer. `folder` asks the questions of examples/own-folder. `answers` has the bundled reader answer
questions from 20 passages that words and both find (`fidkit evaluate`). Rows go to
benchmarks/results/retrieval.jsonl; `python benchmarks/render.py` renders them into docs/corpus.md.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rows

from fidkit import Corpus
from fidkit.engine.meaning import minilm
from fidkit.evaluate.metrics import recall_at
from fidkit.native.threads import threads
from fidkit.passages.protocol import Retriever
from fidkit.passages.search.dense import Dense
from fidkit.passages.search.hybrid import Convex, Hybrid, Reciprocal
from fidkit.passages.search.lexical import Lexical, LexicalWriter
from fidkit.passages.search.scan import Codes, nearest_codes
from fidkit.passages.search.vector_writer import VectorWriter
from fidkit.questions.files import Question, read_questions
from fidkit.types import Passage, distinct

SETS = ("squad", "newwiki", "nq", "triviaqa", "webq")
QUESTIONS = 300
DEPTHS = (1, 5, 20, 40)
WEIGHTS = (0.3, 0.5, 0.7)
FOUND = 1000
SCANNED = (100_000, 325_000, 1_000_000)
FOLDER = Path(__file__).parents[1] / "examples" / "own-folder"
FOLDER_DEPTHS = (3, 10)
READ = 20
PACKAGES = ("fidkit", "numpy", "tantivy")


@dataclass(frozen=True)
class Indexed:
    """Passages by row, and both ways to find them."""

    passages: dict[int, Passage]
    words: Lexical
    meaning: Dense
    encoded: int
    seconds: float

    def ways(self) -> dict[str, Retriever]:
        """All that is compared, by name."""
        mixes = {f"both, {weight}": Convex(weight) for weight in WEIGHTS}
        return {
            "words": self.words,
            "meaning": self.meaning,
            **{name: Hybrid(self.words, self.meaning, mix) for name, mix in mixes.items()},
            "both, by spread": Hybrid(self.words, self.meaning, Spread()),
            "both, by rank": Hybrid(self.words, self.meaning, Reciprocal()),
        }


@dataclass(frozen=True)
class Spread:
    """Scores by how many standard deviations they are from the mean of the candidates."""

    weight: float = 0.5

    def shares(self, ranks: Sequence[int | None], scores: Sequence[float | None], full: bool) -> list[float]:
        """See `fidkit.passages.search.hybrid.Mix`; without a score, as the least."""
        known = [score for score in scores if score is not None]
        least = (min(known) if full else min(0.0, *known)) if known else 0.0
        every = np.array([least if score is None else score for score in scores])
        found: list[float] = ((every - every.mean()) / (every.std() or 1.0)).tolist()
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=tuple(MEASURED))
    parser.add_argument("--data", type=Path, help="folder with corpus and qa")
    parser.add_argument("--reader", default="pocket")
    parser.add_argument("--passages", type=int, default=50_000)
    parser.add_argument("--work", type=Path, help="directory for the indexes; kept")
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "retrieval.jsonl", help="rows go here")
    given = parser.parse_args()
    if given.what in ("recall", "speed", "answers") and given.data is None:
        parser.error(f"{given.what} needs --data")
    for record in MEASURED[given.what](given):
        rows.append(given.to, rows.row("retrieval", PACKAGES, of=given.what, threads=threads(), **record))


def recall(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row a set of questions: percent of them with an answer among the first k passages."""
    indexed, asked = index(given)
    for name, of_set in asked.items():
        found = {
            way: recalls(retriever, of_set, indexed.passages, DEPTHS)
            for way, retriever in indexed.ways().items()
        }
        yield {"set": name, "n": len(of_set), "passages": len(indexed.passages), "recall": found}


def recalls(
    retriever: Retriever, asked: Sequence[Question], passages: dict[int, Passage], depths: Sequence[int]
) -> dict[str, float]:
    """Percent by depth, over different passages as a corpus gives them."""
    sums = dict.fromkeys(depths, 0)
    for question in asked:
        hits = [passages[row] for row, _ in retriever.search(question.question, 2 * max(depths))]
        # Looked at one after the other, and no further than the first with an answer.
        texts = (f"{passage.title} {passage.text}" for passage in distinct(hits)[: max(depths)])
        for depth, found in recall_at(depths, question.answers, texts).items():
            sums[depth] += found
    return {str(depth): 100 * count / len(asked) for depth, count in sums.items()}


def speed(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What encoding and searching take, and the bytes of both indexes."""
    indexed, asked = index(given)
    encoder = minilm()
    some = [f"{p.title}\n{p.text}" for _, p in zip(range(512), indexed.passages.values(), strict=False)]
    encoder.passages(some[:64])
    began = time.perf_counter()
    encoder.passages(some)
    a_second = len(some) / (time.perf_counter() - began)
    texts = [question.question for of_set in asked.values() for question in of_set]
    random.Random(1).shuffle(texts)
    milliseconds = {
        way: spread(retriever, texts[:300])
        for way, retriever in indexed.ways().items()
        if way in ("words", "meaning", "both, 0.5")
    }
    vectors = np.stack([encoder.questions([text])[0] for text in texts[:50]])
    yield {
        "passages": len(indexed.passages),
        "encoded_a_second": a_second,
        "milliseconds": milliseconds,
        "question_ms": median_ms(lambda text: encoder.questions([text]), texts[300:350]),
        "scan_ms": median_ms(lambda vector: indexed.meaning.nearest(vector[None], 40), vectors),
        "bytes": {name: bytes_of(work_of(given) / name) for name in ("lexical-1", "vectors-1")},
    }


def spread(retriever: Retriever, texts: Sequence[str]) -> dict[str, float]:
    """Median and 95 % of the milliseconds of a search for 40 passages, one question after the other."""
    for text in texts[-20:]:
        retriever.search(text, 40)
    times = sorted(timed(partial(retriever.search, text, 40)) for text in texts[:-20])
    return {"median": statistics.median(times), "p95": times[int(0.95 * len(times))]}


def median_ms(call: Callable[[Any], object], given: Iterable[Any]) -> float:
    return statistics.median(timed(partial(call, one)) for one in given)


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)


def scan(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Codes of 384 bits drawn by chance, scanned here and by faiss, on one thread."""
    import faiss

    faiss.omp_set_num_threads(1)
    draw = np.random.default_rng(0)
    for count in SCANNED:
        codes_nW = draw.integers(0, 1 << 63, (count, 6), dtype=np.uint64)
        asked_QW = draw.integers(0, 1 << 63, (16, 6), dtype=np.uint64)
        other = faiss.IndexBinaryFlat(384)
        other.add(codes_nW.view(np.uint8))
        shard = Codes(np.ascontiguousarray(codes_nW.T), np.arange(count))
        for at_once in (1, 16):
            some = asked_QW[:at_once]
            ours = median_ms(lambda asked: nearest_codes([shard], asked.T, FOUND), [some] * 9)  # noqa: B023
            theirs = median_ms(lambda asked: other.search(asked.view(np.uint8), FOUND), [some] * 9)  # noqa: B023
            yield {
                "passages": count, "questions": at_once, "found": FOUND,
                "ours_ms": ours / at_once, "faiss_ms": theirs / at_once,
            }  # fmt: skip


def folder(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The questions of examples/own-folder that its documents answer; passages as `fidkit` cuts them."""
    spec = importlib.util.spec_from_file_location("judge", FOLDER / "judge.py")
    assert spec is not None
    assert spec.loader is not None
    judge = importlib.util.module_from_spec(spec)
    sys.modules["judge"] = judge  # its records look themselves up there
    spec.loader.exec_module(judge)
    asked = [
        Question(one["id"], one["question"], tuple(one["answers"]))
        for one in judge.questions_of(FOLDER)
        if one["answers"]
    ]
    with tempfile.TemporaryDirectory() as work:
        with Corpus.build(FOLDER / "documents", Path(work) / "corpus") as corpus:
            passages = dict(enumerate(corpus, start=1))
        indexed = make(Path(work), passages)
        found = {way: recalls(r, asked, passages, FOLDER_DEPTHS) for way, r in indexed.ways().items()}
        yield {"n": len(asked), "passages": len(passages), "recall": found}


def answers(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row a set and way: how often the reader is right, as it comes and where it has to answer."""
    indexed, asked = index(given)
    corpus, data = corpus_of(given.work, indexed), given.work / "questions.jsonl"
    for name in SETS:
        write(data, ({"id": q.id, "question": q.question, "answers": q.answers} for q in asked[name]))
        for by in ("words", "both"):
            command = [sys.executable, "-m", "fidkit", "evaluate", "--json", "--reader", given.reader]
            command += ["--data", str(data), "--by", by, "--corpus", str(corpus), "--passages", str(READ)]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
            yield {"set": name, "by": by, "corpus_passages": len(indexed.passages), **json.loads(said)}


def corpus_of(work: Path, indexed: Indexed) -> Path:
    """A corpus of the indexed passages, with the vectors that were made for them."""
    file, corpus = work / "passages.jsonl", work / "corpus"
    passages = indexed.passages.values()
    write(file, ({"id": one.id, "title": one.title, "text": one.text} for one in passages))
    shutil.rmtree(corpus, ignore_errors=True)
    with Corpus.build(file, corpus, encoder=minilm, vectors=False) as built:
        begun = corpus / f"vectors-{built.generation + 1}"
    # As if a build had been ended after it had encoded everything.
    begun.mkdir()
    for shard in (work / "vectors-1").glob("shard-*"):
        os.link(shard, begun / shard.name)
    Corpus.build(file, corpus, encoder=minilm, vectors=True).close()
    return corpus


def write(path: Path, records: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def index(given: argparse.Namespace) -> tuple[Indexed, dict[str, list[Question]]]:
    """`chosen` passages, indexed, and the questions."""
    passages, asked = chosen(given.data, given.passages)
    return make(work_of(given), passages), asked


def chosen(data: Path, count: int) -> tuple[dict[int, Passage], dict[str, list[Question]]]:
    """Questions by set, each answered by some passage; these passages by row, and others by chance."""
    draw, asked = random.Random(0), {}
    for name in SETS:
        known = [q for q in read_questions(data / "qa" / f"dev.{name}.jsonl.gz") if q.positive_ids]
        draw.shuffle(known)
        asked[name] = known[:QUESTIONS]
    every = every_passage(data)
    needed = {int(key) for of_set in asked.values() for question in of_set for key in question.positive_ids}
    others = list(every)
    draw.shuffle(others)
    keys = [*sorted(needed), *(key for key in others if key not in needed)][:count]
    return {key: every[key] for key in keys}, asked


def every_passage(data: Path) -> dict[int, Passage]:
    """All passages of DATA/corpus by their numbers there."""
    every: dict[int, Passage] = {}
    for file in sorted((data / "corpus").glob("passages-*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for record in map(json.loads, lines):
                every[record["id"]] = Passage(str(record["id"]), record["title"], record["text"])
    return every


def work_of(given: argparse.Namespace) -> Path:
    if given.work is None:
        given.work = Path(tempfile.mkdtemp(prefix="fidkit-retrieval-"))
    given.work.mkdir(parents=True, exist_ok=True)
    return given.work


def make(work: Path, passages: dict[int, Passage]) -> Indexed:
    """Index passages; vectors that are in `work` already aren't made again."""
    encoder = minilm()
    shutil.rmtree(work / "lexical-1", ignore_errors=True)
    words = LexicalWriter(work / "lexical-1")
    words.add((row, 1, passage.title, passage.text) for row, passage in passages.items())
    words.finish()
    before = work / "vectors-0"
    if (work / "vectors-1" / "index.safetensors").exists():
        shutil.rmtree(before, ignore_errors=True)
        (work / "vectors-1").rename(before)
    # All rows are given anew: another number of passages has other ones.
    base = before if before.exists() else None
    vectors = VectorWriter(work / "vectors-1", encoder, base)
    if base is not None:
        vectors.remove(row for shard in Dense(base, encoder).vectors.shards for row in shard.entries.rows)
    began = time.perf_counter()
    vectors.add((row, passage.title, passage.text) for row, passage in passages.items())
    vectors.finish()
    return Indexed(
        passages, Lexical(work / "lexical-1"), Dense(work / "vectors-1", encoder), vectors.encoded,
        time.perf_counter() - began,
    )  # fmt: skip


def bytes_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())


MEASURED: dict[str, Callable[[argparse.Namespace], Iterator[dict[str, Any]]]] = {
    "recall": recall, "speed": speed, "scan": scan, "folder": folder, "answers": answers,
}  # fmt: skip


if __name__ == "__main__":
    main()
