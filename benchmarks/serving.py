"""`fidkit serve` under load: questions a second, how long each waited, and what an overload does.

    python benchmarks/serving.py load CORPUS --questions QA.jsonl.gz [--clients 1 4 16 64] [--seconds 60]
    python benchmarks/serving.py overload CORPUS --questions QA.jsonl.gz [--times 10] [--seconds 60]
    python benchmarks/serving.py start CORPUS

CORPUS is what `fidkit serve` takes, QA.jsonl.gz has questions in FiD's layout. Clients are threads of a
process of their own, each with one connection, that ask as soon as they have an answer. Every answer is
compared with the one that the same question got when nobody else asked. `load` also serves with batches of
one question (`--alone` measures that alone). What HTTP adds is an answer's time as its client has it, less
the time that the server says it took. `overload` first measures what four clients get, then has so many times
as many questions come in a second, whether answered or not. `start` is the time from the command to
readiness, and memory at rest. Rows go to benchmarks/results/serving.jsonl.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import rows

PASSAGES = 20
_KNOWN = 60
"""Different questions, whose answers are known."""
_CODE = """
import sys
from fidkit.server import scheduler
from fidkit.engine.schedule.batcher import Limits
if sys.argv.pop(1) == "alone":
    scheduler.Scheduler.__init__.__defaults__ = (Limits(tokens=1), 256)
from fidkit.cli import main
main()
"""


@dataclass
class Seen:
    """What clients saw.

    Attributes:
        seconds: of each answer, and `queued` and `http` of them, in milliseconds.
        statuses: how often each.
        wrong: answers that weren't those of their questions.
        peak_mb: the server's memory, at most.
    """

    seconds: list[float] = field(default_factory=list)
    queued: list[float] = field(default_factory=list)
    http: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    without_retry: int = 0

    def add(self, other: Seen) -> None:
        """Take another client's."""
        for name in ("seconds", "queued", "http"):
            getattr(self, name).extend(getattr(other, name))
        self.statuses += other.statuses
        self.wrong += other.wrong
        self.without_retry += other.without_retry

    def record(self, took: float) -> dict[str, Any]:
        """As a row has it."""
        found: dict[str, Any] = {
            "questions_per_second": len(self.seconds) / took,
            "answered": len(self.seconds),
            "statuses": dict(self.statuses),
            "wrong": self.wrong,
        }
        for name, values in (
            ("ms", [1000 * s for s in self.seconds]),
            ("queue_ms", self.queued),
            ("http_ms", self.http),
        ):
            if len(values) > 1:
                cuts = statistics.quantiles(values, n=100)
                found[name] = {"median": statistics.median(values), "p95": cuts[94], "p99": cuts[98]}
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a server.")
    parser.add_argument("what", choices=tuple(MEASURED))
    parser.add_argument("corpus")
    parser.add_argument("--questions", type=Path)
    parser.add_argument("--clients", nargs="*", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--times", type=float, default=10)
    parser.add_argument("--alone", action="store_true", help="only with batches of one question")
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "serving.jsonl", help="rows go here")
    options = parser.parse_args()
    for row in MEASURED[options.what](options):
        rows.append(options.to, rows.row("serving", of=options.what, **row))


def load(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row a number of clients, with batches and without."""
    questions = _questions(options.questions)
    for way in ["alone"] if options.alone else ["batched", "alone"]:
        with _served(options.corpus, way) as (url, process):
            known = _known(url, questions)
            for clients in options.clients:
                took, seen = _asked(url, known, clients, options.seconds)
                memory = {"peak_mb": _memory(process)["VmHWM"]}
                yield {"way": way, "clients": clients, "passages": PASSAGES, **seen.record(took), **memory}


def overload(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row: what comes back when far too much is asked, and how soon all is well again."""
    questions = _questions(options.questions)
    with _served(options.corpus, "batched") as (url, process):
        known = _known(url, questions)
        took, seen = _asked(url, known, 4, min(10.0, options.seconds))
        rate = options.times * len(seen.seconds) / took
        before = _memory(process)["VmRSS"]
        flooded, flood = _flooded(url, known, rate, options.seconds)
        begun = time.perf_counter()
        while _one(url, known, random.Random(1)).seconds == [] and time.perf_counter() - begun < 60:
            time.sleep(0.05)
        recovered = time.perf_counter() - begun
        yield {
            "times": options.times,
            "asked_per_second": rate,
            **flood.record(flooded),
            "without_retry_after": flood.without_retry,
            "recovered_s": recovered,
            "mb_before": before,
            "peak_mb": _memory(process)["VmHWM"],
        }


def start(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row: seconds from the command to readiness, the second time, and memory then."""
    found = []
    for _ in range(4):
        begun = time.perf_counter()
        with _served(options.corpus, "batched") as (url, process):
            assert httpx.get(f"{url}/readyz").status_code == 200
            found.append((time.perf_counter() - begun, _memory(process)["VmRSS"]))
    yield {
        "ready_s": statistics.median(s for s, _ in found[1:]),
        "mb": statistics.median(mb for _, mb in found[1:]),
    }


MEASURED = {"load": load, "overload": overload, "start": start}


def _questions(path: Path) -> list[str]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        asked = [json.loads(line)["question"] for line in file]
    return random.Random(0).sample(asked, _KNOWN)


@contextmanager
def _served(corpus: str, way: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [sys.executable, "-c", _CODE, way, "serve", corpus, "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise SystemExit("the server didn't start")
        yield url, process
    finally:
        process.terminate()
        process.wait()


def _known(url: str, questions: Sequence[str]) -> dict[str, Any]:
    """What each question is answered when nobody else asks."""
    with httpx.Client(base_url=url, timeout=120) as client:
        return {question: _answer(client, question).json()["guess"] for question in questions}


def _answer(client: httpx.Client, question: str) -> httpx.Response:
    return client.post("/v1/answer", json={"question": question, "passages": PASSAGES})


def _one(url: str, known: dict[str, Any], chance: random.Random, client: httpx.Client | None = None) -> Seen:
    """Ask one question."""
    seen, question = Seen(), chance.choice(list(known))
    begun = time.perf_counter()
    try:
        if client is None:
            with httpx.Client(base_url=url, timeout=120) as own:
                response = _answer(own, question)
        else:
            response = _answer(client, question)
    except httpx.HTTPError as error:
        seen.statuses[type(error).__name__] += 1
        return seen
    took = time.perf_counter() - begun
    seen.statuses[str(response.status_code)] += 1
    if response.status_code == 200:
        record = response.json()
        seen.wrong += record["question"] != question or record["guess"] != known[question]
        times = record["timings_ms"]
        seen.seconds.append(took)
        seen.queued.append(times["queue"])
        seen.http.append(1000 * took - times["total"])
    elif response.status_code == 503 and "retry-after" not in response.headers:
        seen.without_retry += 1
    return seen


def _asked(url: str, known: dict[str, Any], clients: int, seconds: float) -> tuple[float, Seen]:
    """Clients that ask as soon as they have an answer; seconds until the last has one."""
    return _apart(_closed_loop, url, known, clients, seconds)


def _flooded(url: str, known: dict[str, Any], rate: float, seconds: float) -> tuple[float, Seen]:
    """Questions that come so often a second, whether answered or not."""
    return _apart(_open_loop, url, known, rate, seconds)


def _apart(work: Any, *arguments: Any) -> tuple[float, Seen]:
    """In a process of its own, which shares no interpreter with anything."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=work, args=(there, *arguments))
    process.start()
    found: tuple[float, Seen] = here.recv()
    process.join()
    return found


def _closed_loop(to: Connection, url: str, known: dict[str, Any], clients: int, seconds: float) -> None:
    until = time.perf_counter() + seconds

    def ask(number: int) -> Seen:
        seen, chance = Seen(), random.Random(number)
        with httpx.Client(base_url=url, timeout=120) as client:
            while time.perf_counter() < until:
                seen.add(_one(url, known, chance, client))
        return seen

    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        all_seen = list(pool.map(ask, range(clients)))
    to.send((time.perf_counter() - begun, _together(all_seen)))


def _open_loop(to: Connection, url: str, known: dict[str, Any], rate: float, seconds: float) -> None:
    seen: list[Seen] = []
    threads = []
    begun = time.perf_counter()
    for number in range(int(rate * seconds)):
        time.sleep(max(0.0, begun + number / rate - time.perf_counter()))
        chance = random.Random(number)
        thread = threading.Thread(target=lambda c=chance: seen.append(_one(url, known, c)))
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
    to.send((time.perf_counter() - begun, _together(seen)))


def _together(all_seen: Sequence[Seen]) -> Seen:
    whole = Seen()
    for seen in all_seen:
        whole.add(seen)
    return whole


def _memory(process: subprocess.Popen[str]) -> dict[str, float]:
    """Megabytes, by the names that Linux has for them."""
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {name: int(found[name].split()[0]) / 1000 for name in ("VmRSS", "VmHWM")}


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main()
