"""A fleet on Ray Serve: how soon it is ready, and what clients see while it changes.

    python benchmarks/fleet.py CORPUS --questions QA.jsonl.gz [--clients 4] [--seconds 20]

CORPUS is a built corpus or `postgresql://…`, QA.jsonl.gz has questions in FiD's layout. Two replicas on this
machine are asked by clients that ask as soon as they have an answer; every answer is compared with the one
that the same question got when nobody else asked. Meanwhile nothing happens (`steady`), all replicas are
replaced, since a reader is added (`update`), or one of them is killed (`kill`). A question that got no answer
is asked once more. Rows go to benchmarks/results/fleet.jsonl.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import rows
from serving import clients

from fidkit.server.fleet import NAME, Fleet, application

REPLICAS = 2
_SLOTS = 8  # processors that Ray is told of, so that there is room for replicas that replace others


@contextmanager
def cluster() -> Iterator[str]:
    """Ray with Ray Serve on this machine; the URL of what it will serve."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray import serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(num_cpus=_SLOTS, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"log_level": "ERROR"})
        yield f"http://127.0.0.1:{port}"
        serve.shutdown()
    finally:
        ray.shutdown()


def deploy(fleet: Fleet) -> float:
    """Serve this instead of what was served before; seconds until it is."""
    from ray import serve

    begun = time.perf_counter()
    serve.run(application(fleet), logging_config={"log_level": "ERROR"})
    return time.perf_counter() - begun


def running() -> int:
    """Replicas that answer."""
    from ray import serve

    states = serve.status().applications["default"].deployments[NAME].replica_states
    return sum(count for state, count in states.items() if state == "RUNNING")


def kill() -> None:
    """End the process of one replica, at once."""
    import ray

    [name, *_] = [
        actor["name"]
        for actor in ray.util.list_named_actors(all_namespaces=True)
        if f"#{NAME}#" in actor["name"]
    ]
    replica: Any = ray.get_actor(name, namespace="serve")
    os.kill(ray.get(replica.__ray_call__.remote(lambda _self: os.getpid())), signal.SIGKILL)


class Clients:
    """Clients that ask without a pause from when they are entered until they are left.

    Args:
        url: of the server.
        known: questions and their answers.
        number: of clients.

    Attributes:
        seen: what they saw.
        failed: questions that got no answer. Each is asked once more, as may be done with a question: it
            changes nothing.
        answered_then: of them.
    """

    def __init__(self, url: str, known: dict[str, clients.Known], number: int = 4) -> None:
        self._url, self._known = url, known
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(seed,)) for seed in range(number)]
        self._begun = 0.0
        self.seen, self.failed, self.answered_then = clients.Seen(), 0, 0

    def __enter__(self) -> Clients:
        self._begun = time.perf_counter()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.seen.took = time.perf_counter() - self._begun

    def _ask(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self._stop.is_set():
            question = chance.choice(list(self._known))
            known = {question: self._known[question]}
            seen = clients.one(self._url, known, chance)
            again = None if seen.seconds else clients.one(self._url, known, chance)
            with self._lock:
                self.seen.add(seen)
                if again is not None:
                    self.failed += 1
                    self.answered_then += len(again.seconds)
                    self.seen.wrong += again.wrong


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a fleet.")
    parser.add_argument("corpus")
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "fleet.jsonl", help="rows go here")
    options = parser.parse_args()
    for row in measured(options):
        rows.append(options.to, rows.row("fleet", replicas=REPLICAS, clients=options.clients, **row))


def measured(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row a thing that happens."""
    fleet = Fleet(corpus=options.corpus, replicas=REPLICAS)
    begun = time.perf_counter()
    with cluster() as url:
        ray_s = time.perf_counter() - begun
        ready_s = deploy(fleet)
        [corpus] = httpx.get(f"{url}/v1/corpora").json()
        yield {"of": "start", "ray_s": ray_s, "ready_s": ready_s, "passages": corpus["passages"]}
        known = clients.known(url, dict.fromkeys(clients.questions_of(options.questions)))
        for of, happens in (("steady", None), ("update", _update), ("kill", _kill)):
            with Clients(url, known, options.clients) as asking:
                time.sleep(options.seconds / 4)
                took = happens(fleet) if happens else 0.0
                time.sleep(options.seconds / 2)
            again = {"failed": asking.failed, "answered_then": asking.answered_then}
            yield {"of": of, "took_s": took, **again, **asking.seen.record()}


def _update(fleet: Fleet) -> float:
    return deploy(fleet.model_copy(update={"readers": ["pocket", "other=pocket"]}))


def _kill(_fleet: Fleet) -> float:
    """Seconds until there are as many replicas as before."""
    begun = time.perf_counter()
    kill()
    until(lambda: running() < REPLICAS)
    until(lambda: running() == REPLICAS)
    return time.perf_counter() - begun


def until(holds: Callable[[], bool], seconds: float = 90.0) -> None:
    """Wait for something, at most so long."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


if __name__ == "__main__":
    main()
