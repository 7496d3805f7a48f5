"""Render measured rows into README, model card and docs/reproduce.md; no number in them is typed in.

    python benchmarks/render.py [--check]

With --check nothing is written; exit 1 if a document differs from its rows.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import rows
from paper import page, plots
from paper.sections import sections

ROOT = Path(__file__).resolve().parents[1]
CARD = ROOT / "src/fidkit/assets/reader/README.md"
TABLES = {"quality": "quality.jsonl", "one-passage": "quality-one-passage.jsonl"}
DOCS = ROOT / "docs"
CONTEXTS = {
    "gold": "one passage that holds the answer",
    "foreign-gold": "one passage of another question",
    "none": "no passage",
    "retrieved": "retrieved",
    "foreign": "retrieved for another question",
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Render measured rows into the documents.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    options = parser.parse_args()
    tables = {mark: quality_table(list(rows.read(rows.RESULTS / file))) for mark, file in TABLES.items()}
    stale = [path for path in (ROOT / "README.md", CARD) if update(path, tables, options.check)]
    stale += reproduce(rows.RESULTS, DOCS, options.check)
    if options.check and stale:
        sys.exit(f"{', '.join(map(str, stale))}: not what the rows say; run python benchmarks/render.py")


def quality_table(records: list[dict[str, Any]]) -> str:
    """EM / F1 of the reader that was measured last, a line a context, a column a dataset."""
    if not records:
        return "Not measured yet."
    current = [r for r in records if r["fingerprint"] == records[-1]["fingerprint"]]
    datasets = list(dict.fromkeys(r["dataset"] for r in current))
    lines = [f"| the reader sees | {' | '.join(datasets)} |", "|---|" + "---|" * len(datasets)]
    for context, words in CONTEXTS.items():
        for n in sorted({r["passages"] for r in current if r["context"] == context}):
            cells = {r["dataset"]: _cell(r) for r in current if (r["context"], r["passages"]) == (context, n)}
            label = words if n == 1 else f"{n} passages, {words}"
            lines.append(f"| {label} | {' | '.join(cells.get(d, '') for d in datasets)} |")
    return "\n".join([*lines, "", "Each cell: exact match / F1 in percent (number of questions)."])


def _cell(record: dict[str, Any]) -> str:
    return f"{record['em']:.1f} / {record['f1']:.1f} ({record['n']})"


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


def reproduce(results: Path, docs: Path, check: bool) -> list[Path]:
    """Write the page of the FiDO paper's tables and figures, and its plots; which of them were stale."""
    quality = [row for file in sorted(results.glob("quality*.jsonl")) for row in rows.read(file)]
    text, path = page.render(results, quality), docs / "reproduce.md"
    stale = [] if path.exists() and path.read_text(encoding="utf-8") == text else [path]
    if stale and not check:
        path.write_text(text, encoding="utf-8")
    for section in sections({}):
        drawn = plots.panels(section.name, page.load(results, section.name)) if section.plot else []
        picture = plots.path_of(docs, section.name)
        if drawn and not plots.is_current(picture, drawn):
            stale.append(picture)
            if not check:
                plots.draw(drawn, picture)
    return stale


if __name__ == "__main__":
    main()
