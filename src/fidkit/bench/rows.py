"""Results as rows of JSON: what ran, on what, with which outcome."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fidkit.errors import DataError

SCHEMA = 1
PACKAGES = ("torch", "fidkit")
_PACKAGE = Path(__file__).resolve().parents[1]


def make_row(kind: str, packages: Sequence[str] = PACKAGES, **values: Any) -> dict[str, Any]:
    """A row with everything that is needed to produce it again.

    Args:
        kind: of measurement.
        packages: whose versions matter; None where one isn't installed.
        values: the outcome.
    """
    return {
        "schema": SCHEMA,
        "kind": kind,
        "git": revision(),
        "command": command(),
        "hardware": {"machine": platform.machine(), "cpu": cpu(), "cores": os.cpu_count()},
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in packages}},
        **values,
    }


def append(path: Path, record: dict[str, Any]) -> None:
    """Add a row to a JSONL file, which is made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL file; none if there is no file.

    Raises:
        DataError: a line is no row; names it.
    """
    if path.exists():
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                yield _row(line, path, number)


def _row(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
        if not isinstance(record, dict):
            raise ValueError(f"it is {type(record).__name__}")
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}, line {number}: expected a row as a JSON object, but {error}; mend or remove the line"
        ) from error
    return record


def command() -> str:
    """What was typed."""
    program = Path(sys.argv[0])
    typed = ["fidkit"] if program.stem in ("fidkit", "__main__") else ["python", sys.argv[0]]
    return shlex.join([*typed, *sys.argv[1:]])


def cpu() -> str:
    """The processor in words."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def revision(package: Path = _PACKAGE) -> str:
    """Git revision of fidkit's own checkout, `-dirty` if changed since; `unknown` where it was installed."""
    top = _git(package, "rev-parse", "--show-toplevel")
    # Installed below somebody else's checkout, it would be their revision.
    if not top or Path(top) / "src" / package.name != package:
        return "unknown"
    return _git(package, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*") or "unknown"


def _git(where: Path, *arguments: str) -> str:
    words = ["git", "--no-optional-locks", "-C", str(where), *arguments]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
