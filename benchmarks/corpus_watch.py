"""Changes a folder at random while `fidkit corpus build --watch` follows it; prints one JSON row.

python benchmarks/corpus_watch.py --to NEW_DIR [--operations 1000] [--seconds 300] [--files 300] [--seed 0]

Files are created, written to, replaced, truncated, renamed, moved and deleted, folders renamed, and temporary
files come and go. Afterwards the corpus must equal a fresh build.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import corpora
import rows

from fidkit.passages import Corpus

WATCH = "from fidkit.cli import main; main()"
_LONGEST_SECONDS = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, required=True, help="directory that does not exist yet")
    parser.add_argument("--operations", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.to.mkdir(parents=True)
    outcome = trial(arguments.to, arguments.operations, arguments.seconds, arguments.files, arguments.seed)
    outcome["command"] = (
        f"python benchmarks/corpus_watch.py --to NEW_DIR --operations {arguments.operations} "
        f"--seconds {arguments.seconds:g} --files {arguments.files} --seed {arguments.seed}"
    )
    rows.append(rows.RESULTS / "corpora.jsonl", rows.row("corpus-watch", **outcome))


def trial(work: Path, operations: int, seconds: float, files: int, seed: int = 0) -> dict[str, Any]:
    """What was done, what was said, and what the corpus has in common with a fresh build."""
    draw = random.Random(seed)
    source = work / "in"
    corpora.folder(source, files, draw)
    command = [sys.executable, "-c", WATCH, "corpus", "build", str(source), "--to", str(work / "kept")]
    with (work / "said").open("w") as said:
        process = subprocess.Popen([*command, "--no-vectors", "--watch"], stdout=said, stderr=said)
        _until(lambda: "following" in (work / "said").read_text())
        done = operate(source, operations, seconds, draw)
        ended = time.monotonic()
        Corpus.build(source, work / "fresh").close()
        with Corpus.open(work / "fresh") as fresh, Corpus.open(work / "kept") as kept:
            caught_up = _until(lambda: kept.fingerprint == fresh.fingerprint)
            behind = time.monotonic() - ended
            generation = kept.generation
            # When it is quiet the index is written anew, so that scores are those of a fresh build.
            _until(lambda: kept.generation > generation)
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
    lines = (work / "said").read_text().splitlines()
    return {
        "operations": sum(done.values()),
        "by_kind": dict(done),
        "seconds": seconds,
        "files": files,
        "seed": seed,
        "caught_up": caught_up,
        "behind_s": round(behind, 1),
        "generations": generation,
        "faults": sum("is tried again" in line for line in lines),
        "exit_code": code,
        "beside_fresh": corpora.beside_fresh(work / "kept", work / "fresh", random.Random(seed)),
    }


def operate(source: Path, count: int, seconds: float, draw: random.Random) -> Counter[str]:
    """Do that many random operations, spread over the time; how many of each kind."""
    done: Counter[str] = Counter()
    began = time.monotonic()
    kinds = list(OPERATIONS)
    for number in range(count):
        kind = draw.choice(kinds)
        files = sorted(path for path in source.rglob("*") if path.is_file())
        OPERATIONS[kind](source, draw.choice(files), draw, number)
        done[kind] += 1
        due = began + seconds * (number + draw.random()) / count
        time.sleep(max(0.0, due - time.monotonic()))
    return done


def _create(source: Path, path: Path, draw: random.Random, number: int) -> None:
    path.with_name(f"made{number}.md").write_text(corpora.text(draw, draw.randrange(1, 8)))


def _append(source: Path, path: Path, draw: random.Random, number: int) -> None:
    with path.open("a") as out:
        for _ in range(3):  # half-written for a moment
            out.write("\n\n" + corpora.text(draw, 1))
            out.flush()
            time.sleep(0.02)


def _replace(source: Path, path: Path, draw: random.Random, number: int) -> None:
    beside = path.with_name(f"{path.name}.tmp")
    beside.write_text(corpora.text(draw, draw.randrange(1, 8)))
    beside.replace(path)


def _truncate(source: Path, path: Path, draw: random.Random, number: int) -> None:
    with path.open("r+") as out:
        out.truncate(path.stat().st_size // 2)


def _rename(source: Path, path: Path, draw: random.Random, number: int) -> None:
    path.rename(path.with_name(f"renamed{number}{path.suffix}"))


def _rename_folder(source: Path, path: Path, draw: random.Random, number: int) -> None:
    folders = sorted(entry for entry in source.iterdir() if entry.is_dir())
    folder = draw.choice(folders)
    folder.rename(source / f"folder{number}")


def _delete(source: Path, path: Path, draw: random.Random, number: int) -> None:
    path.unlink()


def _temporary(source: Path, path: Path, draw: random.Random, number: int) -> None:
    shutil.copyfile(path, path.with_name(f"{path.name}~"))
    swap = path.with_name(f".{path.name}.swp")
    swap.write_bytes(b"editor")
    time.sleep(0.02)
    swap.unlink()
    path.with_name(f"{path.name}~").unlink()


def _move(source: Path, path: Path, draw: random.Random, number: int) -> None:
    folder = draw.choice(sorted({entry.parent for entry in source.rglob("*") if entry.is_file()}))
    path.rename(folder / f"moved{number}{path.suffix}")


OPERATIONS = {
    "create": _create,
    "append": _append,
    "replace": _replace,
    "truncate": _truncate,
    "rename": _rename,
    "rename folder": _rename_folder,
    "delete": _delete,
    "temporary files": _temporary,
    "move": _move,
}


def _until(holds: object) -> bool:
    until = time.monotonic() + _LONGEST_SECONDS
    while time.monotonic() < until:
        if holds():  # type: ignore[operator]
            return True
        time.sleep(0.1)
    return False


if __name__ == "__main__":
    main()
