"""What is measured of a server, a function each, and the command that runs one."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import rows

from fidkit import Answerer
from fidkit.checkpoint.files import locate, open_directory
from serving import servers
from serving.clients import PASSAGES, Known, Seen, closed, flooded, known, one, questions_of, spread

_WAYS = ("batched", "unbatched", "transformers")
_PEERS = [(n, t, dtype) for n, t in ((1, 2), (2, 1)) for dtype in ("bfloat16", "float32")]
"""Questions at once, threads of each, and the type of numbers."""
_WARM = 12
"""Questions that the peer is asked before it is measured."""
_PACKAGES = ("torch", "transformers", "fidkit")
_TOKENS = 6
"""Of the peer's answers while its ways are compared; what answers to these questions have."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a server.")
    parser.add_argument("what", choices=tuple(MEASURED))
    parser.add_argument("corpus")
    parser.add_argument("--questions", type=Path)
    parser.add_argument("--encoder", type=Path, help="of the peer")
    parser.add_argument("--clients", nargs="*", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=60, help="of each way")
    parser.add_argument("--rounds", type=int, default=3, help="in which the ways take turns")
    parser.add_argument("--times", type=float, default=10)
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "serving.jsonl", help="rows go here")
    options = parser.parse_args()
    for row in MEASURED[options.what](options):
        rows.append(
            options.to, rows.row("serving", ("torch", "transformers", "fidkit"), of=options.what, **row)
        )


def peer(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row a way to run FiD on transformers: what four clients get."""
    asked = dict.fromkeys(questions_of(options.questions)[:_WARM], _TOKENS)
    for readers, threads, dtype in _PEERS:
        with servers.peer(options.corpus, options.encoder, readers, threads, dtype) as server:
            answers = known(server.url, asked)
            seen = closed(server.url, answers, 4, options.seconds)
        yield {"readers": readers, "threads": threads, "dtype": dtype, **seen.record()}


def load(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row a way and a number of clients."""
    fastest = _fastest_peer(options)
    with ExitStack() as held:
        served = {way: held.enter_context(servers.fidkit(options.corpus, way)) for way in _WAYS[:2]}
        served["transformers"] = held.enter_context(servers.peer(options.corpus, options.encoder, **fastest))
        ours = known(served["batched"].url, dict.fromkeys(questions_of(options.questions)))
        theirs = _random_answers(ours)
        known(served["transformers"].url, dict.fromkeys([*ours][:_WARM], _TOKENS))
        answers = {"batched": ours, "unbatched": ours, "transformers": theirs}
        for clients in options.clients:
            rounds = _rounds(served, answers, clients, options)
            for way in _WAYS:
                about = {"peer": fastest} if way == "transformers" else {}
                yield {
                    "way": way, "clients": clients, "passages": PASSAGES, "seconds": options.seconds,
                    **_summed(rounds, way), "peak_mb": served[way].megabytes("VmHWM"), **about,
                }  # fmt: skip


def overload(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row: what comes back when far too much is asked, and how soon all is well again."""
    with servers.fidkit(options.corpus) as server:
        answers = known(server.url, dict.fromkeys(questions_of(options.questions)))
        rate = options.times * closed(server.url, answers, 4, min(10.0, options.seconds)).a_second
        before = server.megabytes()
        flood = flooded(server.url, answers, rate, options.seconds)
        begun = time.perf_counter()
        while not one(server.url, answers, random.Random(1)).seconds and time.perf_counter() - begun < 60:
            time.sleep(0.05)
        yield {
            "times": options.times,
            "seconds": options.seconds,
            "asked_per_second": rate,
            **flood.record(),
            "without_retry_after": flood.without_retry,
            "recovered_s": time.perf_counter() - begun,
            "mb_before": before,
            "peak_mb": server.megabytes("VmHWM"),
        }


def python(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row: milliseconds of the same answers over HTTP and in Python, and what HTTP adds.

    Both say what the stages of an answer took, which differs from one time to the next by more than HTTP
    takes. So what is compared is the time beside them.
    """
    questions = questions_of(options.questions)
    with (
        servers.fidkit(options.corpus) as server,
        Answerer.open(options.corpus) as qa,
        httpx.Client(base_url=server.url, timeout=120) as client,
    ):

        def over_http(question: str) -> float:
            asked = {"question": question, "passages": PASSAGES}
            stages: dict[str, float] = client.post("/v1/answer", json=asked).json()["timings_ms"]
            return stages["total"]

        def in_python(question: str) -> float:
            return qa.answer(question, PASSAGES).timings_ms["total"]

        pairs = []
        for number, question in enumerate([questions[0], *questions]):  # the first warms up
            order = (over_http, in_python) if number % 2 else (in_python, over_http)
            took = {ask: _milliseconds(ask, question) for ask in order}
            pairs.append((took[over_http], took[in_python]))
    pairs = pairs[1:]
    yield {
        "n": len(pairs),
        "http_ms": spread([whole for (whole, _), _ in pairs]),
        "python_ms": spread([whole for _, (whole, _) in pairs]),
        "over_ms": spread([beside - own for (_, beside), (_, own) in pairs]),
    }


def start(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row: seconds from the command to readiness, and memory then; the first of all isn't counted."""
    found = []
    for _ in range(6):
        begun = time.perf_counter()
        with servers.fidkit(options.corpus) as server:
            httpx.get(f"{server.url}/readyz").raise_for_status()
            found.append((time.perf_counter() - begun, server.megabytes()))
    yield {
        "first_s": found[0][0],
        "ready_s": median(s for s, _ in found[1:]),
        "mb": median(mb for _, mb in found[1:]),
    }


def page(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row: the first paint, and what goes over the wire."""
    from serving.browser import paints

    with servers.fidkit(options.corpus) as server:
        yield paints(server.url)


MEASURED = {"peer": peer, "load": load, "overload": overload, "python": python, "start": start, "page": page}


def _fastest_peer(options: argparse.Namespace) -> dict[str, Any]:
    found = [row for row in rows.read(options.to) if row["of"] == "peer"][-len(_PEERS) :]
    if not found:
        raise SystemExit(
            f"{options.to} has no rows of `peer`, which says how the peer is fastest; run it first"
        )
    best = max(found, key=lambda row: row["questions_per_second"])
    return {name: best[name] for name in ("readers", "threads", "dtype")}


def _random_answers(answers: dict[str, Known]) -> dict[str, Known]:
    """The same questions to the peer: its answers mean nothing, and are as long, their ends included."""
    tokenizer = open_directory(locate("pocket")).tokenizer
    assert tokenizer is not None
    return {
        question: Known(None, len(tokenizer.target(answer.guess or "")), compared=False)
        for question, answer in answers.items()
    }


def _rounds(
    served: dict[str, servers.Server],
    answers: dict[str, dict[str, Known]],
    clients: int,
    options: argparse.Namespace,
) -> dict[str, list[tuple[Seen, float]]]:
    """What clients saw of each way in each round, and the server's seconds of computing."""
    found: dict[str, list[tuple[Seen, float]]] = {way: [] for way in served}
    for number in range(options.rounds):
        first = number % len(_WAYS)
        for way in (*_WAYS[first:], *_WAYS[:first]):
            before = served[way].cpu_seconds()
            seen = closed(served[way].url, answers[way], clients, options.seconds / options.rounds)
            found[way].append((seen, served[way].cpu_seconds() - before))
    return found


def _summed(rounds: dict[str, list[tuple[Seen, float]]], way: str) -> dict[str, Any]:
    """One way over all rounds; how many times the peer it is, by the median of the rounds."""
    whole = Seen()
    for seen, _ in rounds[way]:
        whole.add(seen)
    times = {
        f"times_{other}": median(
            own.a_second / others.a_second
            for (own, _), (others, _) in zip(rounds[way], rounds[other], strict=True)
        )
        for other in _WAYS[1:]
    }
    cores = sum(cpu for _, cpu in rounds[way]) / whole.took
    return {**whole.record(), "rounds": len(rounds[way]), **times, "cores": cores}


def _milliseconds(ask: Callable[[str], float], question: str) -> tuple[float, float]:
    """Of an answer, and of it what wasn't in its stages."""
    begun = time.perf_counter()
    stages = ask(question)
    whole = 1000 * (time.perf_counter() - begun)
    return whole, whole - stages
