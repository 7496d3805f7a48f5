"""What the command line prints of texts that others wrote: documents, answers, names of files.

Such a text may hold sequences that move a terminal's cursor, change its title or turn the reading direction
round, and characters that the terminal has no code for. Every command runs within `safe_streams`, so that no
command has to remember it.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

from fidkit.wording import CONTROL, MARKS

_CONTROL = re.compile(f"[{CONTROL}]")
# How the bars of libraries (tqdm) go back to the beginning of a line, or up by lines.
_MOVES = re.compile(r"\r|[\n\r]*(?:\x1b\[A)+[\n\r]*")

_READABLE = "fidkit.readable"
_IN_ASCII = {
    MARKS[0]: ">>", MARKS[1]: "<<", "\u2026": "...", "\u2022": "*", "\u00a0": " ", "\u202f": " ",
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    **dict.fromkeys("\u2018\u2019\u201a", "'"), **dict.fromkeys("\u201c\u201d\u201e", '"'),
}  # fmt: skip
"""Marks, dashes, quotes and spaces in the place of those that an encoding doesn't have."""


def _readable(error: UnicodeError) -> tuple[str, int]:
    r"""What is written for characters that an encoding lacks: a mark as a typewriter has it.

    A letter is its number (`\xe9`), since an answer with another letter would be another answer.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    written = (_IN_ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking)
    return "".join(written), error.end


codecs.register_error(_READABLE, _readable)


def plain(text: str) -> str:
    r"""The text with control characters written out, newlines and tabs apart.

    As JSON writes them, `\u001b`, so that JSON stays what it was.
    """
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Until the block is left, all that is printed can be printed, and does nothing else to a terminal."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # An encoding without some character is no reason to lose an answer.
            stream.reconfigure(errors=_READABLE)
    out, err = _Plain(sys.stdout or _Closed()), _Plain(sys.stderr or _Closed(), remarks=True)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            _drop_unwritable(stream)


def _drop_unwritable(stream: Any) -> None:
    """Drop what a stream couldn't take: Python would try again at its end, and say so in lines of its own."""
    try:
        if stream is not None:
            stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except ValueError:  # it was closed meanwhile
        pass


def terminal(stream: Any) -> Any:
    """The stream itself, for what moves the cursor on purpose."""
    return stream.stream if isinstance(stream, _Plain) else stream


class Unwritable(Exception):
    """Results can't be written; no other question does better."""


class Unread(Exception):
    """Nobody reads what is written any more, as behind `| head -1`: there is nothing left to do or to say."""


def unwritten(error: OSError) -> Unread | Unwritable:
    """What it means that results couldn't be written."""
    if isinstance(error, BrokenPipeError):
        return Unread()
    return Unwritable(f"results can't be written to stdout ({error.strerror}); give them a place with room")


class _Closed(io.TextIOBase):
    """Stands for a stream that was closed before the process began."""

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "it is closed")


class _Plain:
    """A text stream through `plain`.

    Args:
        stream: where it goes.
        remarks: for stderr: let what only moves the cursor pass, and a return at the beginning of a line; and
            what can't be written is no reason to lose an answer.
    """

    def __init__(self, stream: Any, *, remarks: bool = False) -> None:
        self.stream, self._remarks = stream, remarks

    def write(self, text: str) -> int:
        match = _MOVES.match(text) if self._remarks else None
        kept = match.end() if match else 0
        with self._to_be_written():
            self.stream.write(text[:kept] + plain(text[kept:]))
        return len(text)

    def flush(self) -> None:
        with self._to_be_written():
            self.stream.flush()

    @contextmanager
    def _to_be_written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._remarks or isinstance(error, BrokenPipeError):
                raise unwritten(error) from error

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
