"""Questions as they are typed at a terminal, with those of earlier runs, or as they come from elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fidkit.errors import UsageError
from fidkit.home import home

HISTORY = "history"
"""File of questions asked before, one a line, the last at the end."""

_PROMPT = "question: "
_MOST = 1000


def answer_each(answer: Callable[[str], None]) -> None:
    """Have each question answered, one a line, until the end of the input or, at a terminal, an empty line.

    There, an interruption (Ctrl-C) ends the answer, or forgets the line that is being typed. Where nothing
    is typed after one, the next ends it all.

    Args:
        answer: given a question, prints its answer.

    Raises:
        UsageError: there is no input.
        KeyboardInterrupt: it was interrupted for good.
    """
    if sys.stdin is None:  # closed
        raise UsageError(
            'there is no input to read questions from; give one, such as fidkit ask "who wrote it?"'
        )
    if sys.stdin.isatty():
        _answer_typed(answer)
        return
    while line := sys.stdin.readline():
        if line.strip():
            answer(line.strip())


def _answer_typed(answer: Callable[[str], None]) -> None:
    ask: Callable[[], str | None] = _plain
    history, interrupted = None, False
    # What edits lines writes to stdout, where nothing but answers must go if that is no terminal.
    if sys.stdout.isatty() and (editor := _editor()):
        ask, history = editor
    while True:
        print(file=sys.stderr)
        try:
            line = ask()
            interrupted = line is None
            if line is None:
                continue
            if not line.strip():
                return
            if history is not None:
                history.add(line.strip())
            answer(line.strip())
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            print("\ninterrupted; Ctrl-C once more ends it", file=sys.stderr)
        except EOFError:
            print(file=sys.stderr)
            return


def _plain() -> str:
    print(_PROMPT, end="", file=sys.stderr, flush=True)
    if not (line := sys.stdin.readline()):
        raise EOFError
    return line


def _editor() -> tuple[Callable[[], str | None], History | None] | None:
    """What reads a line that can be edited, and earlier questions called back; None where there is none.

    Of a line that was begun and interrupted it gives None.
    """
    try:
        import readline  # only where somebody types
    except ImportError:  # Windows, and Pythons that were built without it
        return None

    def ask() -> str | None:
        try:
            return input(_PROMPT)
        except KeyboardInterrupt:
            if not readline.get_line_buffer():
                raise
            print(file=sys.stderr)
            return None

    if os.environ.get("FIDKIT_HISTORY") == "0":
        return ask, None
    history = History(home() / HISTORY)
    for line in history.read():
        readline.add_history(line)
    return ask, history


class History:
    """Questions of earlier runs, in a file that only its owner may read.

    It is a convenience: where it can't be read or written there is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[str]:
        """The last thousand questions; a file with many more is cut to these."""
        try:
            with os.fdopen(self._open(os.O_RDWR), "r+", encoding="utf-8", errors="replace") as file:
                lines = [line for line in file.read().split("\n") if line]
                if len(lines) > 2 * _MOST:
                    file.seek(0)
                    file.truncate()
                    file.writelines(f"{line}\n" for line in lines[-_MOST:])
        except OSError:
            return []
        return lines[-_MOST:]

    def add(self, question: str) -> None:
        """Keep a question."""
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = self._open(os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            with os.fdopen(descriptor, "a", encoding="utf-8", errors="replace") as file:
                file.write(f"{question}\n")

    def _open(self, flags: int) -> int:
        """A descriptor of the file itself: a link would have somebody else's written to."""
        descriptor = os.open(self._path, flags | os.O_NOFOLLOW, 0o600)
        with suppress(OSError):
            os.fchmod(descriptor, 0o600)
        return descriptor
