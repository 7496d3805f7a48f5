import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def write_rows() -> Callable[[Path, Iterable[dict[str, Any]]], Path]:
    """Writes records as JSONL, packed when the name ends with .gz."""

    def write(path: Path, records: Iterable[dict[str, Any]]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w") as out:
            out.writelines(json.dumps(record) + "\n" for record in records)
        return path

    return write


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder of three small documents."""
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    (folder / "tea.md").write_text("# Tea\n\nTea comes from China.\n\n## Brewing\n\nUse hot water.\n")
    (folder / "coffee.txt").write_text("Coffee comes from Ethiopia.")
    (folder / "deep" / "cocoa.txt").write_text("Cocoa comes from the Amazon.")
    return folder
