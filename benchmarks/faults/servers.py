"""`fidkit serve` as a process, and what it was given."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from faults.clients import Known, Load, asking, known


@dataclass(frozen=True)
class Given:
    """What faults are made of.

    Attributes:
        corpus: that was built, and may be changed: a copy.
        folder: of documents, as many; what is built of them is kept in `$FIDKIT_HOME`.
        scratch: for whatever is needed.
        asked: questions.
        clients: that ask at once.
    """

    corpus: Path
    folder: Path
    scratch: Path
    asked: list[str]
    clients: int


@dataclass
class Server:
    """A server that runs.

    Attributes:
        url, process: which.
        log: what it says on stderr.
    """

    url: str
    process: subprocess.Popen[str]
    log: Path

    def get(self, path: str) -> Any:
        """What a route gives."""
        return httpx.get(f"{self.url}{path}", timeout=60).json()

    def add(self, name: str, content: bytes) -> int:
        """Add a document; the status."""
        response = httpx.post(f"{self.url}/v1/documents", files={"files": (name, content)}, timeout=60)
        return response.status_code

    def added(self, name: str) -> str:
        """How a document that was added stands; empty for one that isn't there."""
        found = {one["name"]: one for one in self.get("/v1/documents")["added"]}
        return f"{found[name]['status']} {found[name]['reason']}".strip() if name in found else ""

    def says(self) -> str:
        """All that it has said."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def memory_mb(self) -> float:
        """What it takes now."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        return int(dict(line.split(":", 1) for line in lines)["VmRSS"].split()[0]) / 1000


@contextmanager
def served(*arguments: str, home: Path | None = None) -> Iterator[Server]:
    """A server of these, until the end."""
    environment = {**os.environ, **({"FIDKIT_HOME": str(home)} if home else {})}
    with tempfile.NamedTemporaryFile("w", suffix=".log") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "fidkit", "serve", "--port", "0", *arguments],
            stdout=subprocess.PIPE, stderr=log, text=True, env=environment,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if not url:
                raise SystemExit(f"the server didn't start: {Path(log.name).read_text()}")
            yield Server(url, process, Path(log.name))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@contextmanager
def under_load(given: Given, server: Server) -> Iterator[Load]:
    """Clients ask meanwhile."""
    with asking(server.url, given.asked, given.clients, {}) as load:
        yield load


def right(given: Given, documents: Sequence[str], so_far: Known | None = None) -> Known:
    """What Python answers from the documents as they are now."""
    return known(documents, given.asked, so_far)


def until(holds: Callable[[], Any], seconds: float = 60.0) -> float:
    """Wait until it holds; for how long, and no longer than so."""
    begun = time.monotonic()
    while not holds() and time.monotonic() - begun < seconds:
        time.sleep(0.1)
    return time.monotonic() - begun
