"""Kills builds of a memory at random moments and looks at what is left; prints one JSON row.

python benchmarks/memory_kill.py CORPUS --reader R --to EMPTY [--count 30] [--seed 0] [--shard-mb 1]

A copy of the corpus has its memory built by a process that is killed (SIGKILL) at a random moment of the
time that a build takes, again and again. After each kill what is committed must be whole and be part of
what an undisturbed build makes. A build that ends is judged and begun anew. At the end an undisturbed
build must leave the very files of one that never saw a kill.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import rows

from fidkit.errors import MemoryStoreError
from fidkit.memory import MemoryStore

BUILD = """
import sys
from fidkit import Corpus
from fidkit.precompute import Options, build
if __name__ == "__main__":
    options = Options(shard_mb=int(sys.argv[3]), workers=int(sys.argv[4]))
    with Corpus.open(sys.argv[1]) as corpus:
        build(corpus, sys.argv[2], options)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="a built corpus; it is left as it is")
    parser.add_argument("--reader", required=True)
    parser.add_argument("--to", type=Path, required=True, help="directory that does not exist yet")
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shard-mb", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    given.to.mkdir(parents=True)
    outcome = trial(
        given.corpus, given.reader, given.to, given.count, given.seed, given.shard_mb, given.workers
    )
    print(json.dumps(rows.row("memory_kill", **outcome)))


def trial(
    corpus: Path, reader: str, work: Path, count: int, seed: int = 0, shard_mb: int = 1, workers: int = 1
) -> dict[str, Any]:
    """Kill `count` builds; outcomes beginning with "bad" must not happen."""
    undisturbed, target = (copied(corpus, work / name) for name in ("undisturbed", "killed"))
    arguments = (reader, shard_mb, workers)
    began = time.monotonic()
    run(undisturbed, *arguments)
    seconds = time.monotonic() - began
    wanted = files(undisturbed)
    draw, outcomes, moments = random.Random(seed), Counter[str](), list[float]()
    while len(moments) < count:
        moment = round(draw.random() * seconds, 3)
        if run(target, *arguments, kill_after=moment):
            moments.append(moment)
            outcomes[f"killed: {judge(target, wanted)}"] += 1
        else:
            outcomes["finished: " + ("equal" if files(target) == wanted else "bad, it differs")] += 1
            shutil.rmtree(target / "memory")
    run(target, *arguments)
    return {
        "n": count,
        "outcomes": dict(outcomes),
        "resumed": "equals an undisturbed build" if files(target) == wanted else "bad: differs",
        "shards": sum(name.startswith("shard-") for name in wanted),
        "build_s": round(seconds, 2),
        "kills_s": moments,
    }


def copied(corpus: Path, to: Path) -> Path:
    shutil.copytree(corpus, to, ignore=shutil.ignore_patterns("memory"))
    return to


def run(corpus: Path, reader: str, shard_mb: int, workers: int, *, kill_after: float | None = None) -> bool:
    """Build in a process of its own; True when it was killed before it ended."""
    script = corpus.parent / "build.py"
    script.write_text(BUILD)
    words = [sys.executable, str(script), str(corpus), reader, str(shard_mb), str(workers)]
    process = subprocess.Popen(words)
    try:
        code = process.wait(kill_after)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the build of {corpus} ended with {code}")
    return code != 0


def judge(corpus: Path, wanted: dict[str, str]) -> str:
    """What is committed after a kill: how far it came, or something bad."""
    if not (corpus / "memory" / "manifest.sqlite").exists():
        return "before the memory was begun"
    try:
        with MemoryStore.open(corpus) as store:
            damaged, committed = store.check(), store.info.shards
    except MemoryStoreError as error:
        begun = "never begun" in str(error) or "has no memory" in str(error)
        return "before the memory was begun" if begun else f"bad: {error}"
    if damaged:
        return f"bad: {damaged[0].shard}: {damaged[0].reason}"
    there = files(corpus)
    if any(there[name] != wanted[name] for name in there.keys() & wanted.keys()):
        return "bad: a finished file differs"
    return "some shards are there" if committed else "no shard yet"


def files(corpus: Path) -> dict[str, str]:
    """Hash of every file of the memory that is to be the same each time."""
    memory = corpus / "memory"
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in memory.iterdir()
        if path.is_file() and path.suffix == ".safetensors"
    }


if __name__ == "__main__":
    main()
