"""Kills builds of a corpus at random moments and looks at what is left; prints one JSON row.

python benchmarks/corpus_kill.py SRC --to NEW_DIR [--count 20] [--seed 0] [--first | --watch] [--vectors]

The files of SRC make two states: `part`, the first half of them, and `all`. A corpus in the state
`part` is rebuilt to `all`, and back, each time killed (SIGKILL) at a random moment of the time that a
rebuild takes. Afterwards it must open, hold exactly one of the two states, and index what it holds.
With `--first` every killed build starts from nothing; what is left may also say that it was never
completed. With `--watch` half of the files come and go as a folder, and what is killed follows them. With
`--vectors` all builds make vectors. At the end an undisturbed rebuild must give the content of a corpus that
never saw a kill.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rows

from fidkit.errors import CorpusError
from fidkit.passages import Corpus
from fidkit.passages.search.lexical import Lexical

BUILD = "import sys; from fidkit.passages import Corpus; Corpus.build(sys.argv[2:], sys.argv[1])"
WITH_VECTORS = """
import sys
from fidkit.engine.meaning import minilm
from fidkit.passages import Corpus
Corpus.build(sys.argv[2:], sys.argv[1], encoder=minilm, vectors=True)
"""
FOLLOW = """
import sys
from pathlib import Path
from fidkit.passages.local.watch import follow
for _ in follow(sys.argv[2:], Path(sys.argv[1])):
    pass
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder with two files or more")
    parser.add_argument("--to", type=Path, required=True, help="directory that does not exist yet")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", action="store_true", help="kill first builds instead of rebuilds")
    parser.add_argument("--watch", action="store_true", help="kill what follows a folder")
    parser.add_argument("--vectors", action="store_true", help="with vectors")
    arguments = parser.parse_args()
    arguments.to.mkdir(parents=True)
    files = sorted(
        path for path in arguments.source.iterdir() if path.name.endswith((".jsonl.gz", ".jsonl", ".txt"))
    )
    build = WITH_VECTORS if arguments.vectors else BUILD
    if arguments.watch:
        outcome = trial_of_following(files, arguments.to, arguments.count, arguments.seed)
    else:
        outcome = trial(files, arguments.to, arguments.count, arguments.seed, arguments.first, build)
    print(json.dumps(rows.row("corpus-kill", **outcome)))


def trial(
    files: Sequence[Path], work: Path, count: int, seed: int = 0, first: bool = False, build: str = BUILD
) -> dict[str, Any]:
    """Kill `count` builds (fewer if most end too soon); outcomes beginning with "bad" must not happen."""
    part, target = files[: len(files) // 2], work / "killed"
    known: dict[str, str] = {}
    for name, sources in (("part", part), ("all", files)):
        run(sources, work / name, program=build)
        known[content(work / name)] = name
    seconds = timed_first(files, target, build) if first else timed_rebuild(part, files, target, build)
    draw, outcomes, moments, state = random.Random(seed), Counter[str](), list[float](), "part"
    # A build may end before its moment comes: go on until `count` were really killed.
    for _ in range(3 * count):
        if sum(outcomes[name] for name in outcomes if name.startswith("killed")) == count:
            break
        if first:
            shutil.rmtree(target, ignore_errors=True)
        moments.append(round(draw.random() * seconds, 3))
        killed = run(files if first or state == "part" else part, target, moments[-1], build)
        state = judge(target, known)
        outcomes[f"{'killed' if killed else 'finished before the kill'}: {state}"] += 1
    run(files, target, program=build)
    final = "equals an undisturbed build" if judge(target, known) == "all" else "bad: differs"
    return {
        "n": count,
        "outcomes": dict(outcomes),
        "rebuild": final,
        "build_s": round(seconds, 2),
        "kills_s": moments,
    }


def trial_of_following(files: Sequence[Path], work: Path, count: int, seed: int = 0) -> dict[str, Any]:
    """Kill `count` processes that follow a folder, half of which comes and goes."""
    folder, away, target = work / "in", work / "away", work / "killed"
    half = folder / "half"
    half.mkdir(parents=True)
    for at, path in enumerate(files):
        shutil.copy2(path, half if at % 2 else folder)
    known: dict[str, str] = {}
    run([folder], work / "all")
    half.rename(away)
    run([folder], work / "part")
    for name in ("part", "all"):
        known[content(work / name)] = name
    run([folder], target)
    draw, outcomes, moments = random.Random(seed), Counter[str](), list[float]()
    for _ in range(count):
        # Time for the start of the process, a build, and the next with what comes or goes meanwhile.
        moments.append(round(0.3 + 5 * draw.random(), 3))
        source, there = (half, away) if half.exists() else (away, half)
        process = subprocess.Popen([sys.executable, "-c", FOLLOW, str(target), str(folder)])
        time.sleep(moments[-1] * draw.random())
        source.rename(there)
        time.sleep(moments[-1])
        process.kill()
        process.wait()
        outcomes[f"killed: {judge(target, known)}"] += 1
    if away.exists():
        away.rename(half)
    run([folder], target)
    final = "equals an undisturbed build" if judge(target, known) == "all" else "bad: differs"
    return {"n": count, "outcomes": dict(outcomes), "rebuild": final, "kills_s": moments}


def timed_first(files: Sequence[Path], target: Path, build: str = BUILD) -> float:
    began = time.monotonic()
    run(files, target, program=build)
    return time.monotonic() - began


def timed_rebuild(part: Sequence[Path], files: Sequence[Path], target: Path, build: str = BUILD) -> float:
    """Leaves the state `part`."""
    run(part, target, program=build)
    seconds = timed_first(files, target, build)
    run(part, target, program=build)
    return seconds


def run(sources: Sequence[Path], target: Path, kill_after: float | None = None, program: str = BUILD) -> bool:
    """Build in a process of its own; True when it was killed before it ended."""
    process = subprocess.Popen([sys.executable, "-c", program, str(target), *map(str, sources)])
    try:
        code = process.wait(kill_after)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the build of {target} ended with {code}")
    return code != 0


def judge(target: Path, known: dict[str, str]) -> str:
    """The state that a corpus is in: one of the known, "never completed", or something bad."""
    try:
        return known.get(content(target), "bad: a state that never was")
    except CorpusError as error:
        incomplete = (
            "never completed" in str(error) or "does not exist" in str(error) or "not a corpus" in str(error)
        )
        return "never completed" if incomplete else f"bad: {error}"


def content(directory: Path) -> str:
    """Hash of all passages in order; raises CorpusError unless the index holds as many."""
    digest = hashlib.sha256()
    with Corpus.open(directory) as corpus:
        for passage in corpus:
            digest.update(repr(passage).encode())
        index = Lexical(directory / f"lexical-{corpus.info().generation}")
        if len(index) != len(corpus):
            raise CorpusError(f"{len(index)} passages in the index, {len(corpus)} in the catalogue")
        vectors = corpus.info().vectors
        if vectors is not None and vectors["passages"] != len(corpus):
            raise CorpusError(f"{vectors['passages']} vectors, {len(corpus)} passages in the catalogue")
    return digest.hexdigest()


if __name__ == "__main__":
    main()
