"""Clients that ask a server without end, and what they saw."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from typing import Any

import httpx
from serving.clients import PASSAGES, asked, opened

from fidkit import Answerer
from fidkit.server.library import Library

_MOST_SECONDS = 150
_ANSWERED = 8  # more answers, after which a state is taken for usual
Known = dict[str, set[str]]
"""Answers that are right, of each question: those that Python gets of the same documents."""


@dataclass
class Seen:
    """What clients saw.

    Attributes:
        statuses: how often each; of requests that got no response, the error.
        answers: how often each, with its question.
        ended: when each answer was there, in seconds from the first question.
        slowest: seconds of the slowest answer.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    ended: list[float] = field(default_factory=list)
    slowest: float = 0.0
    said: Counter[str] = field(default_factory=Counter)

    def add(self, other: Seen) -> None:
        """Take another client's."""
        self.statuses += other.statuses
        self.answers += other.answers
        self.said += other.said
        self.ended += other.ended
        self.slowest = max(self.slowest, other.slowest)

    def record(self, known: Known) -> dict[str, Any]:
        """As a row has it."""
        times = sorted(self.ended)
        return {
            "answered": len(times),
            "statuses": dict(sorted(self.statuses.items())),
            "wrong": sum(n for (asked, guess), n in self.answers.items() if guess not in known[asked]),
            "lost": sum(n for status, n in self.statuses.items() if not status.isdigit()),
            "longest_pause_s": max((b - a for a, b in itertools.pairwise(times)), default=0.0),
            "slowest_s": self.slowest,
            "errors": dict(self.said),
        }


def known(documents: Sequence[str], questions: Sequence[str], so_far: Known | None = None) -> Known:
    """What Python answers from the documents as they are now, beside what it answered before."""
    found: Known = defaultdict(set, so_far or {})
    library = Library(documents)
    with library.corpus, Answerer("pocket", library.corpus) as answerer:
        for question in questions:
            found[question] = found[question] | {answerer.answer(question, PASSAGES).guess}
    return dict(found)


class Load:
    """Clients at work."""

    def __init__(self, seen: Seen, over: Event, answered: Any) -> None:
        self.seen, self._over, self._answered = seen, over, answered

    def settle(self, more: int = _ANSWERED, seconds: float = 30.0) -> float:
        """Wait until so many more are answered, at most so long; how long it was."""
        begun, goal = time.monotonic(), self._answered.value + more
        while self._answered.value < goal and time.monotonic() - begun < seconds:
            time.sleep(0.02)
        return time.monotonic() - begun


@contextmanager
def asking(url: str, questions: Sequence[str], clients: int, headers: dict[str, str]) -> Iterator[Load]:
    """Clients in a process of their own ask meanwhile; what they saw is there afterwards."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    over, answered = context.Event(), context.Value("i", 0)
    process = context.Process(target=_ask_all, args=(there, over, answered, url, questions, clients, headers))
    process.start()
    load = Load(Seen(), over, answered)
    try:
        load.settle()
        yield load
    finally:
        over.set()
        if here.poll(60):
            load.seen.add(here.recv())
        process.join()


def _ask_all(
    to: Connection, over: Event, answered: Any, url: str, questions: Sequence[str], clients: int,
    headers: dict[str, str],
) -> None:  # fmt: skip
    begun = time.monotonic()

    def ask(number: int) -> Seen:
        seen, chance = Seen(), random.Random(number)
        with opened(url, headers) as client:
            while not over.is_set() and time.monotonic() - begun < _MOST_SECONDS:
                _one(client, chance.choice(questions), seen, begun)
                answered.value = answered.value + 1 if seen.ended else answered.value
        return seen

    whole = Seen()
    with ThreadPoolExecutor(clients) as pool:
        for seen in pool.map(ask, range(clients)):
            whole.add(seen)
    to.send(whole)


def _one(client: httpx.Client, question: str, seen: Seen, begun: float) -> None:
    sent = time.monotonic()
    response = asked(client, question, seen.statuses)
    now = time.monotonic()
    if response is not None and response.status_code == 200:
        seen.answers[question, response.json()["guess"]] += 1
        seen.ended.append(now - begun)
        seen.slowest = max(seen.slowest, now - sent)
        return
    if response is not None:
        seen.said[response.json()["error"]["message"][:200]] += 1
    time.sleep(0.2)
