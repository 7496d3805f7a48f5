"""Pages of PDFs as pictures, drawn by a process of their own: a file that crashes it harms nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import subprocess
import sys
import tempfile
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
            drawn = await asyncio.to_thread(_draw, where, source)
        self._drawn[key] = drawn
        while len(self._drawn) > _KEPT:
            self._drawn.popitem(last=False)
        return drawn


def _draw(corpus: str, source: str) -> bytes:
    if "\0" in source:
        raise RequestError(404, f"no document is called {source!r}", "source")
    with tempfile.TemporaryDirectory(prefix="fidkit-page-") as folder:
        to = Path(folder) / "page.png"
        command = ["-m", "fidkit", "show", "--in", corpus, "--picture", str(to), "--json", "--", source]
        process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        with process:
            if hasattr(resource, "prlimit"):
                with contextlib.suppress(ProcessLookupError):
                    resource.prlimit(process.pid, resource.RLIMIT_AS, (_BYTES, _BYTES))
            try:
                _, said = process.communicate(timeout=_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise RequestError(
                    422, f"{source}: its page took over {_SECONDS:.0f} seconds to draw"
                ) from None
        if process.returncode == 0 and to.exists():
            return to.read_bytes()
        lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.startswith("error: ")]
        message = lines[-1].removeprefix("error: ") if lines else f"{source}: its page can't be drawn"
        # What it says of a file may name its place on this machine.
        raise RequestError(422, message.replace(f"{corpus}: ", ""))
