"""Benchmark results are rows of JSON: what ran, on what, with which outcome."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fidkit.bench import rows
from fidkit.bench.rows import make_row as row
from fidkit.bench.rows import read
from fidkit.cli.app import share_cores

# Benchmarks run as the command line does. They import this before PyTorch, which looks then.
share_cores()

RESULTS = Path(__file__).parent / "results"

__all__ = ["RESULTS", "append", "read", "row"]


def append(path: Path, record: dict[str, Any]) -> None:
    """Add a row to a JSONL file and show it on stdout."""
    rows.append(path, record)
    print(json.dumps(record), flush=True)
