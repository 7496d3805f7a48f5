"""What an extra adds to an installation, and to the time that a command takes to begin.

    python benchmarks/install.py [--extra documents] [--repeats 15]

Makes an environment with the packages that fidkit itself needs, and adds those of the extra, in the versions
of constraints.txt. The extra's are fetched anew, so seconds depend on the network. Before and after, `fidkit
--help` is timed. Appends a row to benchmarks/results/documents.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
import tomllib
import venv
from pathlib import Path
from typing import Any

import rows

_ROOT = Path(__file__).resolve().parents[1]
_HELP = "from fidkit.cli import main; main()"
_COUNT = (
    "import contextlib, io, sys\n"
    "from fidkit.cli.app import run\n"
    "with contextlib.redirect_stdout(io.StringIO()): run(['--help'])\n"
    "print(len(sys.modules))"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--extra", default="documents")
    parser.add_argument("--repeats", type=int, default=15, help="how often `fidkit --help` is timed")
    options = parser.parse_args()
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    with tempfile.TemporaryDirectory() as folder:
        record = measured(
            Path(folder),
            project["dependencies"],
            project["optional-dependencies"][options.extra],
            options.repeats,
        )
    record["extra"] = options.extra
    rows.append(rows.RESULTS / "documents.jsonl", rows.row("install", **record))


def measured(folder: Path, needed: list[str], extra: list[str], repeats: int) -> dict[str, Any]:
    """The figures of a row.

    Args:
        folder: empty; the environment is made there.
        needed: requirements of fidkit itself.
        extra: those that are added.
        repeats: how often the help is timed.
    """
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    _install(python, needed)
    before, without = _state(python, folder), _help(python, repeats)
    began = time.monotonic()
    _install(python, extra, "--no-cache-dir")
    seconds = time.monotonic() - began
    after, with_it = _state(python, folder), _help(python, repeats)
    return {
        "brought": sorted(after["packages"] - before["packages"]),
        "bytes": after["bytes"] - before["bytes"],
        "seconds": round(seconds, 1),
        "packages_before": len(before["packages"]),
        "bytes_before": before["bytes"],
        "help_ms": {"without": without["ms"], "with": with_it["ms"]},
        "help_modules": {"without": without["modules"], "with": with_it["modules"]},
    }


def _install(python: str, requirements: list[str], *options: str) -> None:
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, "-c", str(_ROOT / "constraints.txt"), *options, *requirements], check=True)


def _state(python: str, folder: Path) -> dict[str, Any]:
    """Names of all packages, and bytes of all files."""
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    names = {package["name"] for package in json.loads(listed.stdout)}
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {"packages": names, "bytes": size}


def _help(python: str, repeats: int) -> dict[str, Any]:
    """Median milliseconds of `fidkit --help` as a process, and how many modules it imports."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(_ROOT / "src")
    taken = []
    for number in range(repeats + 1):
        began = time.perf_counter()
        subprocess.run([python, "-c", _HELP, "--help"], env=environment, capture_output=True, check=True)
        if number:  # the first one writes what it compiled
            taken.append(1000 * (time.perf_counter() - began))
    counted = subprocess.run(
        [python, "-c", _COUNT], env=environment, capture_output=True, text=True, check=True
    )
    return {"ms": round(statistics.median(taken), 1), "modules": int(counted.stdout)}


if __name__ == "__main__":
    main()
