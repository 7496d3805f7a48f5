"""Servers in processes of their own, that are measured."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_FIDKIT = """
import sys
from fidkit.engine.schedule import batcher
if sys.argv.pop(1) == "unbatched":
    batcher.READ_TOGETHER = batcher.Limits(tokens=1)
    from fidkit.server import scheduler
    scheduler._SIDE_BY_SIDE = 1
from fidkit.cli import main
main()
"""
_PEER = Path(__file__).with_name("peer.py")
_OURS = ("GOMP_SPINCOUNT",)
"""What benchmarks set for this process, and nobody would for FiD on transformers."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """One that runs.

    Attributes:
        url: where.
        process: its number.
    """

    url: str
    process: int

    def megabytes(self, name: str = "VmRSS") -> float:
        """Of memory, by the names that Linux has: VmRSS now, VmHWM at most."""
        lines = Path(f"/proc/{self.process}/status").read_text(encoding="ascii").splitlines()
        found = dict(line.split(":", 1) for line in lines)
        return int(found[name].split()[0]) / 1000

    def cpu_seconds(self) -> float:
        """That it has computed for, on all cores together."""
        fields = Path(f"/proc/{self.process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def fidkit(corpus: str, way: str = "batched") -> Iterator[Server]:
    """`fidkit serve`; `unbatched` reads one question at a time, from its first step to its last."""
    with _running(["-c", _FIDKIT, way, "serve", corpus, "--port", "0"], dict(os.environ)) as server:
        yield server


@contextmanager
def peer(corpus: str, encoder: Path, readers: int, threads: int, dtype: str) -> Iterator[Server]:
    """FiD on transformers; see `peer.py`."""
    settings = {"encoder": encoder, "readers": readers, "threads": threads, "dtype": dtype}
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    environment = {name: value for name, value in os.environ.items() if name not in _OURS}
    environment["OMP_NUM_THREADS"] = str(threads)
    with _running([str(_PEER), corpus, *options], environment) as server:
        yield server


@contextmanager
def _running(arguments: Sequence[str], environment: dict[str, str]) -> Iterator[Server]:
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise SystemExit(f"the server didn't start: {' '.join(arguments[-8:])}")
        yield Server(url, process.pid)
    finally:
        process.terminate()
        process.wait()
