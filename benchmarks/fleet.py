"""A fleet on Ray Serve: how soon it is ready, and what clients see while it changes.

    python benchmarks/fleet.py CORPUS --questions QA.jsonl.gz [--clients 4] [--seconds 20]

CORPUS is a built corpus or `postgresql://…`, QA.jsonl.gz has questions in FiD's layout. Two replicas on this
machine are asked by clients that each have one connection and ask as soon as they have an answer; every answer
is compared with the one that the same question got when nobody else asked. Meanwhile nothing happens
(`steady`), all replicas are replaced, since a reader is added (`update`), or one of them is killed (`kill`).
In `kill` a client whose question failed asks it once more, as may be done with a question: it changes nothing.
Rows go to benchmarks/results/fleet.jsonl.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import rows
import serving

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
    ray.init(num_cpus=_SLOTS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
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
    return int(states.get("RUNNING", 0))


def kill() -> None:
    """End the process of one replica, at once."""
    import ray

    [name, *_] = [
        actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True) if f"#{NAME}#" in actor["name"]
    ]
    replica = ray.get_actor(name, namespace="serve")
    os.kill(ray.get(replica.__ray_call__.remote(lambda _self: os.getpid())), signal.SIGKILL)


class Clients:
    """Clients that ask without a pause from when they are entered until they are left.

    Args:
        url: of the server.
        known: questions and their answers.
        clients: that ask at the same time.
        again: ask a question once more that got no answer.

    Attributes:
        seen: what they saw.
        again: questions that were asked once more, and of them those that were answered then.
    """

    def __init__(self, url: str, known: dict[str, Any], clients: int = 4, *, again: bool = False) -> None:
        self._url, self._known, self._again = url, known, again
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]
        self.seen, self.again = serving.Seen(), [0, 0]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def failed(self) -> int:
        """Questions that got no answer when they were asked first."""
        return sum(count for status, count in self.seen.statuses.items() if status != "200")

    def _ask(self, number: int) -> None:
        chance = random.Random(number)
        with httpx.Client(base_url=self._url, timeout=120) as client:
            while not self._stop.is_set():
                question = chance.choice(list(self._known))
                seen = self._one(question, client)
                with self._lock:
                    self.seen.add(seen)
                if self._again and "200" not in seen.statuses:
                    repeated = self._one(question, client)
                    with self._lock:
                        self.again[0] += 1
                        self.again[1] += "200" in repeated.statuses
                        self.seen.wrong += repeated.wrong

    def _one(self, question: str, client: httpx.Client) -> serving.Seen:
        return serving._one(self._url, {question: self._known[question]}, random.Random(), client)


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
        known = serving._known(url, serving._questions(options.questions))
        yield {"of": "start", "ray_s": ray_s, "ready_s": ready_s}
        for of, happens in (("steady", None), ("update", _update), ("kill", _kill)):
            begun = time.perf_counter()
            with Clients(url, known, options.clients, again=of == "kill") as clients:
                time.sleep(options.seconds / 4)
                took = happens(fleet) if happens else 0.0
                time.sleep(options.seconds / 2)
            found = clients.seen.record(time.perf_counter() - begun)
            yield {"of": of, "took_s": took, "failed": clients.failed, "again": clients.again, **found}


def _update(fleet: Fleet) -> float:
    return deploy(fleet.model_copy(update={"readers": ["pocket", "other=pocket"]}))


def _kill(_fleet: Fleet) -> float:
    """Seconds until there are as many replicas as before."""
    kill()
    begun, gone = time.perf_counter(), False
    while not gone or running() < REPLICAS:
        gone = gone or running() < REPLICAS
        time.sleep(0.1)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
