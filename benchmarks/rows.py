"""Benchmark results are rows of JSON: what ran, on what, with which outcome."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

SCHEMA = 1
RESULTS = Path(__file__).parent / "results"


def row(kind: str, **values: Any) -> dict[str, Any]:
    """A row with everything that is needed to produce it again."""
    return {
        "schema": SCHEMA,
        "kind": kind,
        "git": _git(),
        "command": " ".join(["python", *sys.argv]),
        "hardware": {"machine": platform.machine(), "cpu": _cpu(), "cores": os.cpu_count()},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "fidkit")},
        },
        **values,
    }


def append(path: Path, record: dict[str, Any]) -> None:
    """Add a row to a JSONL file and show it on stdout."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(record)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    print(line, flush=True)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL file; none if there is no file."""
    if path.exists():
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def _git() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
