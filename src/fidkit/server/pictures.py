"""Pages of PDFs as pictures, drawn by a process of their own: a file that crashes it harms nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path

from fidkit.passages import Passages
from fidkit.server.errors import RequestError

_SECONDS, _BYTES = 20.0, 2 << 30
_KEPT = 64
_AT_ONCE = 2


class Pictures:
    """Draws pages, keeps the last ones."""

    def __init__(self) -> None:
        self._drawn: OrderedDict[tuple[str, int, str], bytes] = OrderedDict()
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def of(self, corpus: Passages, source: str) -> bytes:
        """A PNG of the page that characters of a document are on, with these marked.

        Args:
            corpus: that has the document.
            source: with its characters, as evidence has it.

        Raises:
            RequestError: no page of a PDF, or one that can't be drawn.
        """
        where = str(corpus.derived)
        key = where, corpus.generation, source
        if key in self._drawn:
            self._drawn.move_to_end(key)
            return self._drawn[key]
        async with self._places:
            drawing = _Drawing(where, source)
            try:
                drawn = await asyncio.to_thread(drawing.picture)
            finally:
                drawing.end()  # who waited may have left
        self._drawn[key] = drawn
        while len(self._drawn) > _KEPT:
            self._drawn.popitem(last=False)
        return drawn


class _Drawing:
    """The process that draws one page.

    Args:
        corpus: a directory.
        source: a document of it, with characters.
    """

    def __init__(self, corpus: str, source: str) -> None:
        self._corpus, self._source = corpus, source
        self._lock, self._ended = threading.Lock(), False
        self._process: subprocess.Popen[bytes] | None = None

    def picture(self) -> bytes:
        """Draw it: a PNG.

        Raises:
            RequestError: it can't be drawn, or was ended.
        """
        corpus, source = self._corpus, self._source
        if "\0" in source:
            raise RequestError(404, f"no document is called {source!r}", "source")
        with tempfile.TemporaryDirectory(prefix="fidkit-page-") as folder:
            to = Path(folder) / "page.png"
            status, said = self._run("--in", corpus, "--picture", str(to), "--json", "--", source)
            if status == 0 and to.exists():
                return to.read_bytes()
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        message = lines[-1].removeprefix("error: ") if lines else f"{source}: its page can't be drawn"
        # What it says of a file may name its place on this machine.
        raise RequestError(404, message.replace(f"{corpus}: ", ""), "source")

    def end(self) -> None:
        """Have it end now, if it hasn't."""
        with self._lock:
            self._ended = True
            if self._process is not None:
                self._process.kill()

    def _run(self, *arguments: str) -> tuple[int, str]:
        """How `fidkit show` ended, and what it said on stderr."""
        with self._lock:
            if self._ended:
                return -signal.SIGKILL, ""
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fidkit", "show", *arguments], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
        with self._process as process:
            if hasattr(resource, "prlimit"):
                with contextlib.suppress(ProcessLookupError):
                    resource.prlimit(process.pid, resource.RLIMIT_AS, (_BYTES, _BYTES))
            try:
                _, said = process.communicate(timeout=_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise RequestError(
                    422, f"{self._source}: its page took over {_SECONDS:.0f} seconds to draw"
                ) from None
        return process.returncode, said.decode("utf-8", "replace")
