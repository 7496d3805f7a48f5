"""Refreshes a corpus of which few files changed, and compares it with a fresh build; prints one JSON row.

python benchmarks/corpus_refresh.py --to NEW_DIR [--files 10000] [--changed 0.01] [--unchanged 100000]
    [--of FOLDER]

The files are texts made up from the seed, which are read as fast as any; or with `--of` copies of those of
FOLDER, such as benchmarks/mixed_folder.py makes, with PDFs and files of office programs. A third of the
changes are edits, a third new files, a third removals. `--unchanged` is how many small files another corpus
has, of which none changed.

A refresh, as before each question, leaves removed passages in the index's statistics. A build, as by
`fidkit corpus build`, writes the index anew after it.
"""

from __future__ import annotations

import argparse
import random
import shutil
import time
from pathlib import Path
from typing import Any

import corpora
import rows

from fidkit.passages import Corpus
from fidkit.passages.local.build import build, tidy

_TRUSTED_SECONDS = 2.5  # files written later than that before a build are looked at again by the next


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, required=True, help="directory that does not exist yet")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--changed", type=float, default=0.01)
    parser.add_argument("--unchanged", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--of", type=Path, help="folder of which files are copied; made-up texts without it")
    arguments = parser.parse_args()
    arguments.to.mkdir(parents=True)
    outcome = refreshed(arguments.to, arguments.files, arguments.changed, arguments.seed, arguments.of)
    if arguments.unchanged:
        outcome |= unchanged(arguments.to, arguments.unchanged)
    outcome["command"] = (
        f"python benchmarks/corpus_refresh.py --to NEW_DIR --files {arguments.files} "
        f"--changed {arguments.changed} --unchanged {arguments.unchanged} --seed {arguments.seed}"
        + (" --of MIXED" if arguments.of else "")
    )
    rows.append(rows.RESULTS / "corpora.jsonl", rows.row("corpus-refresh", **outcome))


def refreshed(work: Path, files: int, share: float, seed: int, of: Path | None) -> dict[str, Any]:
    """Seconds of a full build, a refresh and a build, and what they have in common."""
    draw = random.Random(seed)
    made = corpora.folder(work / "in", files, draw) if of is None else copies(of, work / "in", files)
    time.sleep(_TRUSTED_SECONDS)
    full = build([work / "in"], work / "kept").seconds
    (change if of is None else exchange)(made, max(3, round(files * share)), draw)
    time.sleep(_TRUSTED_SECONDS)
    refresh = build([work / "in"], work / "kept").seconds
    fresh = build([work / "in"], work / "fresh").seconds
    before = corpora.beside_fresh(work / "kept", work / "fresh", random.Random(seed))
    tidied = tidy(work / "kept")
    after = corpora.beside_fresh(work / "kept", work / "fresh", random.Random(seed))
    return {
        "files": files,
        "of": "texts" if of is None else "mixed",
        "changed": share,
        "seed": seed,
        "full_s": round((full + fresh) / 2, 2),
        "refresh_s": round(refresh, 2),
        "build_s": round(refresh + tidied, 2),
        "beside_fresh": before,
        "beside_fresh_after_build": after,
    }


def copies(of: Path, to: Path, files: int) -> list[Path]:
    """So many copies of a folder's files, each round of them in a folder of its own."""
    found, made = sorted(path for path in of.rglob("*") if path.is_file()), []
    for number in range(files):
        round_, at = divmod(number, len(found))
        path = to / f"copy{round_:03d}" / found[at].relative_to(of)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found[at], path)
        made.append(path)
    return made


def exchange(made: list[Path], count: int, draw: random.Random) -> None:
    """Edit, remove and add as many files, `count` in all: an edited file becomes that of another content."""
    for at, path in enumerate(draw.sample(made, count)):
        other = draw.choice([one for one in made if one.suffix == path.suffix and one.exists()])
        if at % 3 == 1:
            path.unlink()
        else:
            content = other.read_bytes()
            (path if at % 3 == 0 else path.with_name(f"new-{path.name}")).write_bytes(content)


def change(made: list[Path], count: int, draw: random.Random) -> None:
    """Edit, remove and add as many texts, `count` in all."""
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
