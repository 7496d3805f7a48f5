"""Refreshes a corpus of which few files changed, and compares it with a fresh build; prints one JSON row.

python benchmarks/corpus_refresh.py --to NEW_DIR [--files 10000] [--changed 0.01] [--unchanged 100000]

A third of the changes are edits, a third new files, a third removals. `--unchanged` is how many small files
another corpus has, of which none changed.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import Any

import corpora
import rows

from fidkit.passages import Corpus
from fidkit.passages.local.build import build, reindex

_TRUSTED_SECONDS = 2.5  # files written later than that before a build are looked at again by the next


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, required=True, help="directory that does not exist yet")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--changed", type=float, default=0.01)
    parser.add_argument("--unchanged", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.to.mkdir(parents=True)
    outcome = refreshed(arguments.to, arguments.files, arguments.changed, arguments.seed)
    if arguments.unchanged:
        outcome |= unchanged(arguments.to, arguments.unchanged)
    outcome["command"] = (
        f"python benchmarks/corpus_refresh.py --to NEW_DIR --files {arguments.files} "
        f"--changed {arguments.changed} --unchanged {arguments.unchanged} --seed {arguments.seed}"
    )
    rows.append(rows.RESULTS / "corpora.jsonl", rows.row("corpus-refresh", **outcome))


def refreshed(work: Path, files: int, share: float, seed: int = 0) -> dict[str, Any]:
    """Seconds of a refresh and of a full build, and what both have in common."""
    draw = random.Random(seed)
    made = corpora.folder(work / "in", files, draw)
    time.sleep(_TRUSTED_SECONDS)
    full = build([work / "in"], work / "kept").seconds
    change(made, max(3, round(files * share)), draw)
    time.sleep(_TRUSTED_SECONDS)
    refresh = build([work / "in"], work / "kept").seconds
    build([work / "in"], work / "fresh")
    before = corpora.beside_fresh(work / "kept", work / "fresh", random.Random(seed))
    began = time.monotonic()
    reindex(work / "kept")
    seconds = time.monotonic() - began
    after = corpora.beside_fresh(work / "kept", work / "fresh", random.Random(seed))
    return {
        "files": files,
        "changed": share,
        "seed": seed,
        "full_s": round(full, 2),
        "refresh_s": round(refresh, 2),
        "reindex_s": round(seconds, 2),
        "beside_fresh": before,
        "beside_fresh_after_reindex": after,
    }


def change(made: list[Path], count: int, draw: random.Random) -> None:
    """Edit, remove and add as many files, `count` in all."""
    chosen = draw.sample(made, count)
    for at, path in enumerate(chosen):
        if at % 3 == 0:
            path.write_text(path.read_text() + "\n\n" + corpora.text(draw, 1))
        elif at % 3 == 1:
            path.unlink()
        else:
            path.with_name(f"new-{path.name}").write_text(corpora.text(draw, draw.randrange(1, 12)))


def unchanged(work: Path, files: int) -> dict[str, Any]:
    """Seconds that a look at a corpus takes of which nothing changed."""
    corpora.folder(work / "many", files, random.Random(0), paragraphs=2)
    time.sleep(_TRUSTED_SECONDS)
    build([work / "many"], work / "of-many")
    with Corpus.open(work / "of-many") as corpus:
        took = sorted(corpus.refresh().seconds for _ in range(3))
    return {"unchanged_files": files, "unchanged_s": round(took[1], 2)}


if __name__ == "__main__":
    main()
