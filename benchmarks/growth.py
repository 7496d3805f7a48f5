"""How building and searching a corpus grow with its passages.

    python benchmarks/growth.py make    --passages 1000000 --work DIR --data DATA
    python benchmarks/growth.py words   --passages 1000000 --work DIR
    python benchmarks/growth.py vectors --passages 1000000 --work DIR
    python benchmarks/growth.py refresh --passages 1000000 --work DIR
    python benchmarks/growth.py search  --passages 1000000 --work DIR --data DATA
    python benchmarks/growth.py ask     --passages 1000000 --work DIR

`make` writes passage files: as many passages of DATA/corpus by chance, or all of them and then copies. In a
copy, the sentences of each article are shuffled and its title has the copy's number: words are as frequent as
in the original, and no two passages are equal. The other stages measure, each in a process of its own, so
that its memory is known: a corpus built by words, its vectors added, one of its 100 files changed and the
corpus brought up to date, questions of all sets searched for, and `fidkit ask` as a process of its own.

A vector here is that of another passage with noise: what vectors take and how fast they are searched doesn't
depend on what they mean, and encoding (see retrieval.py) takes a hundredth of a second each. The time to
make them up is not counted. Rows go to benchmarks/results/growth.jsonl.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import random
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import rows
from numpy.typing import NDArray

from fidkit import Corpus
from fidkit.engine.meaning import minilm
from fidkit.native.threads import threads
from fidkit.passages.local.corpus import By
from fidkit.passages.local.vectors import EncoderSource
from fidkit.passages.search.encoder import VectorEncoder
from fidkit.questions.files import read_questions
from fidkit.types import Passage

SETS = ("squad", "newwiki", "nq", "triviaqa", "webq")
FILES = 100
QUESTIONS, WARM = 300, 20
ASKED, ASKED_TIMES = "who got the first nobel prize in physics", 7
BASE = "vectors.npy"
PACKAGES = ("fidkit", "numpy", "tantivy")
_SENTENCE_END = re.compile(r"(?<=[.!?]) ")
# Vectors of so many passages stand for all others; noise of 0.6 beside their length of 1.
_ENCODED, _NOISE = 4096, 0.03

Record = dict[str, Any]
T = TypeVar("T")
WAYS: tuple[By, ...] = get_args(By)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("make", *MEASURED))
    parser.add_argument("--passages", type=int, required=True)
    parser.add_argument("--work", type=Path, required=True, help="directory for files and corpora; kept")
    parser.add_argument("--data", type=Path, help="folder with corpus and qa")
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "growth.jsonl", help="rows go here")
    given = parser.parse_args()
    if given.stage in ("make", "search") and given.data is None:
        parser.error(f"{given.stage} needs --data")
    given.work.mkdir(parents=True, exist_ok=True)
    if given.stage == "make":
        make(given)
        return
    record = {
        "of": given.stage,
        "passages": given.passages,
        "threads": threads(),
        **MEASURED[given.stage](given),
    }
    rows.append(given.to, rows.row("growth", PACKAGES, **record))


def make(given: argparse.Namespace) -> None:
    """Passage files, each a hundredth of the passages, and vectors that stand for all others."""
    every = list(read_corpus(given.data))
    draw = random.Random(0)
    if given.passages <= len(every):
        chosen = iter([every[at] for at in sorted(draw.sample(range(len(every)), given.passages))])
    else:
        chosen = itertools.islice(with_copies(every, draw), given.passages)
    folder = files_of(given)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    each = -(-given.passages // FILES)
    for number in range(FILES):
        write(folder / f"{number:02}.jsonl", itertools.islice(chosen, each))
    base = given.work / BASE
    if not base.exists():
        some = random.Random(1).sample(every, _ENCODED)
        np.save(base, minilm().of_passages([Passage(**record) for record in some]))


def read_corpus(data: Path) -> Iterator[Record]:
    """Passages of DATA/corpus: id, title and text."""
    for file in sorted((data / "corpus").glob("passages-*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for record in map(json.loads, lines):
                yield {"id": str(record["id"]), "title": record["title"], "text": record["text"]}


def with_copies(every: Sequence[Record], draw: random.Random) -> Iterator[Record]:
    """All passages, and then one copy after the other."""
    yield from every
    for copy in itertools.count(2):
        for title, article in itertools.groupby(every, lambda record: record["title"]):
            passages = list(article)
            for record, text in zip(passages, shuffled([one["text"] for one in passages], draw), strict=True):
                yield {"id": f"{record['id']}-{copy}", "title": f"{title} ({copy})", "text": text}


def shuffled(texts: Sequence[str], draw: random.Random) -> Iterator[str]:
    """Passages of as many sentences each as these have, which are the same in another order."""
    parts = [_SENTENCE_END.split(text) for text in texts]
    pool = [sentence for part in parts for sentence in part]
    draw.shuffle(pool)
    rest = iter(pool)
    for part in parts:
        yield " ".join(itertools.islice(rest, len(part)))


def write(path: Path, records: Iterable[Record]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def words(given: argparse.Namespace) -> Record:
    """A corpus built from nothing, without vectors."""
    shutil.rmtree(corpus_of(given), ignore_errors=True)
    files, to = files_of(given), corpus_of(given)
    return built(given, lambda encoder: Corpus.build(files, to, encoder=encoder, vectors=False))


def vectors(given: argparse.Namespace) -> Record:
    """Vectors added to the corpus that `words` left."""
    files, to = files_of(given), corpus_of(given)
    return built(given, lambda encoder: Corpus.build(files, to, encoder=encoder, vectors=True))


def refresh(given: argparse.Namespace) -> Record:
    """One file of a hundred changed: the sentences of each of its passages stand in another order."""
    file, draw = files_of(given) / f"{FILES // 2:02}.jsonl", random.Random()
    with file.open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    for record in records:
        [record["text"]] = shuffled([record["text"]], draw)
    write(file, records)

    def refreshed(encoder: EncoderSource) -> Corpus:
        corpus = Corpus.open(corpus_of(given), encoder)
        corpus.refresh()
        return corpus

    record = built(given, refreshed)
    # A build goes on where the refresh ended: it writes the index anew.
    anew = built(given, lambda encoder: Corpus.build(files_of(given), corpus_of(given), encoder=encoder))
    return record | {"anew_seconds": anew["seconds"]}


def built(given: argparse.Namespace, build: Callable[[EncoderSource], Corpus]) -> Record:
    """What a build took: seconds, those of all cores, and memory at most, with mapped files and without."""
    made_up, own = MadeUp(given.work / BASE), Peak()
    began, busy = time.perf_counter(), time.process_time()
    with own:
        corpus = build(made_up.encoder)
        took, worked = time.perf_counter() - began, time.process_time() - busy
    with corpus:
        assert corpus.report is not None
        return {
            "seconds": took - made_up.seconds, "core_seconds": worked - made_up.seconds,
            "peak_bytes": memory("VmHWM"), "own_peak_bytes": own.bytes, "at_first_bytes": own.at_first,
            "read": corpus.report.passages_read, "sizes": corpus.info().sizes,
        }  # fmt: skip


def search(given: argparse.Namespace) -> Record:
    """Opening, the first search, and then the milliseconds of 300 by each way, one after the other."""
    asked = [
        question.question
        for name in SETS
        for question in read_questions(given.data / "qa" / f"dev.{name}.jsonl.gz")
    ]
    random.Random(0).shuffle(asked)
    encoder = MadeUp(given.work / BASE).encoder()
    encoder.of_questions(asked[:WARM])  # opened, and its kernels loaded
    opened, corpus = timed(lambda: Corpus.open(corpus_of(given), lambda: encoder))
    with corpus:
        firsts = {by: timed(partial(corpus.search, asked[0], 40, by))[0] for by in WAYS}
        milliseconds = {by: spread(corpus, asked, by) for by in WAYS}
        told, _ = timed(corpus.info)
        private, mapped = memory("RssAnon"), memory("RssFile")
    return {
        "open_ms": opened, "first_ms": firsts, "milliseconds": milliseconds, "info_ms": told,
        "encoded_a_second": encoded_a_second(given), "private_bytes": private, "mapped_bytes": mapped,
    }  # fmt: skip


def ask(given: argparse.Namespace) -> Record:
    """Seconds of `fidkit ask`, from its start to its end; the first of all is left out."""
    words = [sys.executable, "-m", "fidkit", "ask", ASKED, "--in", str(corpus_of(given)), "--json"]
    seconds, answer = [], b""
    for _ in range(1 + ASKED_TIMES):
        took, done = timed(lambda: subprocess.run(words, check=True, stdout=subprocess.PIPE))
        seconds.append(took / 1000)
        answer = done.stdout
    of_last = json.loads(answer)["timings_ms"]
    return {"ask_seconds": seconds[1:], "median": statistics.median(seconds[1:]), "timings_ms": of_last}


def encoded_a_second(given: argparse.Namespace) -> float:
    """Passages that the encoder itself makes vectors of."""
    with (files_of(given) / "00.jsonl").open(encoding="utf-8") as lines:
        some = [Passage(**json.loads(line)) for line in itertools.islice(lines, 256)]
    return len(some) / (timed(lambda: minilm().of_passages(some))[0] / 1000)


def spread(corpus: Corpus, asked: Sequence[str], by: By) -> dict[str, float]:
    """Median and 95 % of the milliseconds of a search for 40 passages, texts included."""
    for question in asked[QUESTIONS : QUESTIONS + WARM]:
        corpus.search(question, 40, by)
    times = sorted(timed(partial(corpus.search, one, 40, by))[0] for one in asked[:QUESTIONS])
    return {"median": statistics.median(times), "p95": times[int(0.95 * len(times))]}


class Peak(threading.Thread):
    """Looks at this process' own memory, mapped files aside, until it is left.

    Attributes:
        at_first, bytes: before, and the most that was seen.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.at_first = self.bytes = memory("RssAnon")
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.02):
            self.bytes = max(self.bytes, memory("RssAnon"))

    def __enter__(self) -> Peak:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()


class MadeUp:
    """An encoder whose vectors of passages are those of others, with noise; questions are encoded.

    Attributes:
        seconds: that making vectors up took.
    """

    def __init__(self, base: Path) -> None:
        self._base = np.load(base)
        self._draw = np.random.default_rng(0)
        self.seconds = 0.0
        real = minilm()
        self._encoder = VectorEncoder(
            real.name, real.fingerprint, real.dimension, self._passages, real.questions
        )

    def encoder(self) -> VectorEncoder:
        return self._encoder

    def _passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        began = time.perf_counter()
        some = self._base[self._draw.integers(0, len(self._base), len(texts))]
        some = some + _NOISE * self._draw.standard_normal(some.shape, np.float32)
        some /= np.linalg.norm(some, axis=1, keepdims=True)
        self.seconds += time.perf_counter() - began
        return some


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Milliseconds, and what came of it."""
    began = time.perf_counter()
    result = call()
    return 1000 * (time.perf_counter() - began), result


def memory(kind: str) -> int:
    """Bytes of this process: `VmHWM` at most so far, `RssAnon` its own, `RssFile` of mapped files."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    [said] = [line.split()[1] for line in lines if line.startswith(f"{kind}:")]
    return 1024 * int(said)


def files_of(given: argparse.Namespace) -> Path:
    return given.work / f"passages-{given.passages}"


def corpus_of(given: argparse.Namespace) -> Path:
    return given.work / f"corpus-{given.passages}"


MEASURED: dict[str, Callable[[argparse.Namespace], Record]] = {
    "words": words, "vectors": vectors, "refresh": refresh, "search": search, "ask": ask,
}  # fmt: skip


if __name__ == "__main__":
    main()
