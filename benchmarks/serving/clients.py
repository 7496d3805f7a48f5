"""Clients of a server, in a process of their own, that check each answer they get."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx

PASSAGES = 20
_KNOWN = 60
"""Different questions, whose answers are known."""


@dataclass(frozen=True)
class Known:
    """What a question is answered when nobody else asks.

    Attributes:
        guess: the answer.
        max_tokens: that the question asks for; None leaves it to the server.
        compared: whether every answer has to be this one.
    """

    guess: str | None
    max_tokens: int | None = None
    compared: bool = True


@dataclass
class Seen:
    """What clients saw.

    Attributes:
        took: seconds until the last had its answer.
        seconds: of each answer, and `queued` and `http` of them, in milliseconds.
        statuses: how often each.
        wrong: answers that weren't those of their questions.
        without_retry: 503 that didn't say when to ask again.
    """

    took: float = 0.0
    seconds: list[float] = field(default_factory=list)
    queued: list[float] = field(default_factory=list)
    http: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    without_retry: int = 0

    def add(self, other: Seen) -> None:
        """Take what others saw at another time, or in no time of their own."""
        for name in ("seconds", "queued", "http"):
            getattr(self, name).extend(getattr(other, name))
        self.took += other.took
        self.statuses += other.statuses
        self.wrong += other.wrong
        self.without_retry += other.without_retry

    @property
    def a_second(self) -> float:
        """Questions that were answered."""
        return len(self.seconds) / self.took

    def record(self) -> dict[str, Any]:
        """As a row has it."""
        return {
            "questions_per_second": self.a_second,
            "answered": len(self.seconds),
            "statuses": dict(self.statuses),
            "wrong": self.wrong,
            "ms": spread([1000 * s for s in self.seconds]),
            "queue_ms": spread(self.queued),
            "http_ms": spread(self.http),
        }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, and what 95 and 99 % of the values don't exceed; nothing of fewer than two."""
    if len(values) < 2:
        return {}
    cuts = statistics.quantiles(values, n=100)
    return {"median": statistics.median(values), "p95": cuts[94], "p99": cuts[98]}


def questions_of(path: Path, count: int = _KNOWN) -> list[str]:
    """Some questions of a file in FiD's layout, the same every time."""
    unpacked = gzip.open if path.suffix == ".gz" else open
    with unpacked(path, "rt", encoding="utf-8") as file:
        found = [json.loads(line)["question"] for line in file]
    return random.Random(0).sample(found, count)


def known(url: str, tokens: Mapping[str, int | None]) -> dict[str, Known]:
    """What each question is answered when nobody else asks, with so many tokens at most."""
    with opened(url) as client:
        return {
            question: Known(_post(client, question, most).json()["guess"], most)
            for question, most in tokens.items()
        }


def closed(url: str, answers: dict[str, Known], clients: int, seconds: float) -> Seen:
    """Clients that ask as soon as they have an answer, once each at least."""
    return _apart(_closed, url, answers, clients, seconds)


def flooded(url: str, answers: dict[str, Known], rate: float, seconds: float) -> Seen:
    """Questions that come so often a second, whether answered or not, each from a new connection."""
    return _apart(_flooded, url, answers, rate, seconds)


def one(url: str, answers: dict[str, Known], chance: random.Random) -> Seen:
    """A client that asks one question."""
    with opened(url) as client:
        return _ask(client, answers, chance)


def opened(url: str, headers: Mapping[str, str] | None = None) -> httpx.Client:
    """A client of a server."""
    # No certificates are loaded, which would take a client longer than all that it does here.
    return httpx.Client(base_url=url, timeout=120, verify=False, headers=headers)


def asked(
    client: httpx.Client, question: str, statuses: Counter[str], max_tokens: int | None = None
) -> httpx.Response | None:
    """Ask one question, and count how that ended: by the status, or the error where there is no response."""
    try:
        response = _post(client, question, max_tokens)
    except httpx.HTTPError as error:
        statuses[type(error).__name__] += 1
        return None
    statuses[str(response.status_code)] += 1
    return response


def _post(client: httpx.Client, question: str, max_tokens: int | None) -> httpx.Response:
    most = {} if max_tokens is None else {"max_tokens": max_tokens}
    return client.post("/v1/answer", json={"question": question, "passages": PASSAGES, **most})


def _ask(client: httpx.Client, answers: dict[str, Known], chance: random.Random) -> Seen:
    seen, question = Seen(), chance.choice(list(answers))
    expected = answers[question]
    begun = time.perf_counter()
    response = asked(client, question, seen.statuses, expected.max_tokens)
    took = time.perf_counter() - begun
    if response is None:
        return seen
    if response.status_code == 200:
        record = response.json()
        other = expected.compared and record["guess"] != expected.guess
        seen.wrong += record["question"] != question or other
        times = record["timings_ms"]
        seen.seconds.append(took)
        seen.queued.append(times["queue"])
        seen.http.append(1000 * took - times["total"])
    elif response.status_code == 503 and "retry-after" not in response.headers:
        seen.without_retry += 1
    return seen


def _apart(work: Any, *arguments: Any) -> Seen:
    """In a process of its own, which shares no interpreter with anything."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=work, args=(there, *arguments))
    process.start()
    found: Seen = here.recv()
    process.join()
    return found


def _closed(to: Connection, url: str, answers: dict[str, Known], clients: int, seconds: float) -> None:
    until = time.perf_counter() + seconds

    def ask(number: int) -> Seen:
        seen, chance = Seen(), random.Random(number)
        with opened(url) as client:
            seen.add(_ask(client, answers, chance))  # one each, however long it took to begin
            while time.perf_counter() < until:
                seen.add(_ask(client, answers, chance))
        return seen

    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        all_seen = list(pool.map(ask, range(clients)))
    to.send(_together(all_seen, time.perf_counter() - begun))


def _flooded(to: Connection, url: str, answers: dict[str, Known], rate: float, seconds: float) -> None:
    seen: list[Seen] = []
    threads = []
    begun = time.perf_counter()
    for number in range(int(rate * seconds)):
        time.sleep(max(0.0, begun + number / rate - time.perf_counter()))
        chance = random.Random(number)
        thread = threading.Thread(target=lambda c=chance: seen.append(one(url, answers, c)))
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
    to.send(_together(seen, time.perf_counter() - begun))


def _together(all_seen: Sequence[Seen], took: float) -> Seen:
    whole = Seen(took)
    for seen in all_seen:
        whole.add(seen)
    return whole
