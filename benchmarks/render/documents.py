"""Documents with marked tables and plots, and how each of them is made of rows."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rows

from render import (
    beginnings,
    corpora,
    faults,
    fleet,
    growth,
    hostile,
    install,
    learning_curve,
    lumen,
    mixed,
    onepass,
    pictures,
    postgres,
    precisions,
    predictions,
    repairs,
    retrieval,
    reuse,
    serving,
    siblings,
    stages,
    summaries,
    throughput,
)
from render.paper import page, plots
from render.paper.sections import sections
from render.study import part as study
from render.study import trials

ROOT = Path(__file__).resolve().parents[2]
CARD = ROOT / "src/fidkit/assets/readers/pocket/README.md"
TABLES: dict[str, tuple[Callable[[list[dict[str, Any]]], str], str]] = {
    "quality": (summaries.quality, "quality.jsonl"),
    "quality-in-short": (summaries.quality_in_short, "quality.jsonl"),
    "own-folder": (summaries.own_folder, "own-folder.jsonl"),
    "tested-evidence": (summaries.tested_evidence, "tested-evidence.jsonl"),
    "speed-real": (summaries.speed, "bench-real.jsonl"),
    "speed-real-int8": (summaries.speed, "bench-real-int8.jsonl"),
    "speed-full": (summaries.speed, "bench-full.jsonl"),
    "speed-int8": (summaries.speed, "bench-int8.jsonl"),
    "speed-int8-avx2": (summaries.speed, "bench-int8-avx2.jsonl"),
    "training-speed": (summaries.training_speed, "training-speed.jsonl"),
    **lumen.TABLES,
    **repairs.TABLES,
    **beginnings.TABLES,
    **siblings.TABLES,
    **stages.TABLES,
    **precisions.TABLES,
    **predictions.TABLES,
    **throughput.TABLES,
    **postgres.TABLES,
    **retrieval.TABLES,
    **serving.TABLES,
    **trials.TABLES,
    **faults.TABLES,
    **fleet.TABLES,
    **growth.TABLES,
    **mixed.TABLES,
    **hostile.TABLES,
    **install.TABLES,
    **onepass.TABLES,
    **corpora.TABLES,
}
"""How each marked table is made, and of which rows."""
DOCS = ROOT / "docs"
DOCUMENTS = (
    ROOT / "README.md",
    CARD,
    *(
        DOCS / page
        for page in (
            "lumen.md",
            "upcycling.md",
            "checkpoints.md",
            "training.md",
            "cost.md",
            "bench.md",
            "serve.md",
            "fleet.md",
            "corpus.md",
            "memory.md",
            "log.md",
        )
    ),
)
PICTURES: dict[str, tuple[Callable[[list[dict[str, Any]]], pictures.Points], str]] = {
    **repairs.PICTURES,
    **beginnings.PICTURES,
    **learning_curve.PICTURES,
    **growth.PICTURES,
    **study.PICTURES,
}
"""How each plot of the documents is made, and of which rows."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Render measured rows into the documents.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    options = parser.parse_args()
    tables = {mark: make(list(rows.read(rows.RESULTS / file))) for mark, (make, file) in TABLES.items()}
    stale = [path for path in DOCUMENTS if update(path, tables, options.check)]
    stale += draw(rows.RESULTS, DOCS, options.check)
    stale += reproduce(rows.RESULTS, DOCS, options.check)
    if options.check and stale:
        sys.exit(f"{', '.join(map(str, stale))}: not what the rows say; run python benchmarks/render.py")


def update(path: Path, tables: dict[str, str], check: bool) -> bool:
    """Put each table between the marks of its name, where a document has them; whether that changes it."""
    text = new = path.read_text(encoding="utf-8")
    for mark, table in tables.items():
        before, start, rest = new.partition(f"<!-- {mark} -->")
        _, end, after = rest.partition(f"<!-- /{mark} -->")
        if start and end:
            new = f"{before}{start}\n{table}\n{end}{after}"
    if new != text and not check:
        path.write_text(new, encoding="utf-8")
    return new != text


def draw(results: Path, docs: Path, check: bool) -> list[Path]:
    """Draw the documents' plots; which of them were stale."""
    made = {
        docs / f"{name}.png": make(list(rows.read(results / file))) for name, (make, file) in PICTURES.items()
    }
    stale = [path for path, drawn in made.items() if drawn and not pictures.is_current(path, drawn)]
    for path in () if check else stale:
        pictures.draw(made[path], path)
    return stale


def reproduce(results: Path, docs: Path, check: bool) -> list[Path]:
    """Write the page of what the papers say, and the plots of times; which of them were stale."""
    quality = [row for file in sorted(results.glob("quality*.jsonl")) for row in rows.read(file)]
    learnt = study.part(*(list(rows.read(results / f"{name}.jsonl")) for name in ("study", "passages")))
    beside = reuse.part(list(rows.read(results / "bench-lumen.jsonl")))
    text, path = f"{page.render(results, quality)}\n{learnt}\n\n{beside}\n", docs / "reproduce.md"
    stale = [] if path.exists() and path.read_text(encoding="utf-8") == text else [path]
    if stale and not check:
        path.write_text(text, encoding="utf-8")
    for section in sections({}):
        drawn = plots.panels(section.name, page.load(results, section.name)) if section.plot else []
        picture = plots.path_of(docs, section.name)
        if drawn and not pictures.is_current(picture, drawn):
            stale.append(picture)
            if not check:
                pictures.draw(drawn, picture)
    return stale
