"""The prompt of `fidkit ask` at a real terminal, and the questions that it remembers."""

import codecs
import os
import pty
import re
import select
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fidkit.cli.prompt import HISTORY, History

ECHO = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C reaches it
from fidkit.cli.say import safe_streams
from fidkit.cli.prompt import questions
with safe_streams():
    for question in questions():
        print(f"asked <{question}>", flush=True)
print("the end", flush=True)
"""


class Terminal:
    """A process at a terminal of its own."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.mine, theirs = pty.openpty()
        self.seen, self.decoder = "", codecs.getincrementaldecoder("utf-8")()
        variables = {"FIDKIT_HOME": str(home), "TERM": "xterm", "INPUTRC": "/dev/null", "LC_ALL": "C.UTF-8"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", ECHO], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env=os.environ | variables | environment,
        )  # fmt: skip
        os.close(theirs)

    def until(self, pattern: str) -> str:
        deadline = time.monotonic() + 30
        while not (found := re.search(pattern, self.seen)):
            assert time.monotonic() < deadline, self.seen
            if select.select([self.mine], [], [], 0.2)[0]:
                try:
                    self.seen += self.decoder.decode(os.read(self.mine, 4096))
                except OSError:  # the other side is closed
                    assert re.search(pattern, self.seen), self.seen
        self.seen = self.seen[found.end() :]
        return found[0]

    def type(self, keys: str) -> None:
        os.write(self.mine, keys.encode())

    def end(self) -> None:
        self.type("\x04")
        self.until("the end")
        assert self.process.wait(20) == 0
        os.close(self.mine)


UP, CTRL_C = "\x1b[A", "\x03"


def test_questions_of_earlier_runs_are_called_back(tmp_path: Path) -> None:
    pytest.importorskip("readline")
    home = tmp_path / "new" / "home"
    first = Terminal(home)
    for question in ("who owns it?", "wem gehört es?"):
        first.until("question: ")
        first.type(f"{question}\r")
        first.until(f"asked <{re.escape(question)}>")
    first.until("question: ")
    first.end()
    assert stat.S_IMODE((home / HISTORY).stat().st_mode) == 0o600
    second = Terminal(home)
    second.until("question: ")
    second.type(f"{UP}{UP}\r")
    second.until(r"asked <who owns it\?>")
    second.until("question: ")
    second.end()
    without = Terminal(home, FIDKIT_HISTORY="0")
    without.until("question: ")
    without.type(f"{UP}secret\r")
    without.until("asked <secret>")
    without.until("question: ")
    without.end()
    assert (home / HISTORY).read_text() == "who owns it?\nwem gehört es?\nwho owns it?\n"


@pytest.mark.parametrize("edits", [True, False])
def test_an_interruption_clears_the_line(tmp_path: Path, edits: bool) -> None:
    if not edits:  # a Python without readline
        (tmp_path / "readline.py").write_text("raise ImportError('none')")
    terminal = Terminal(tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]))
    terminal.until("question: ")
    terminal.type("half a question")
    terminal.until("half a question")
    terminal.type(CTRL_C)
    terminal.until("question: ")
    terminal.type("another\r")
    terminal.until("asked <another>")
    terminal.until("question: ")
    terminal.end()
    assert (tmp_path / HISTORY).exists() is edits


def test_what_cannot_be_kept_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / HISTORY, tmp_path):
        history = History(path)
        history.add("who?")
        assert history.read() == []
    other = tmp_path / "other"
    other.write_text("mine\n")
    (tmp_path / HISTORY).symlink_to(other)
    History(tmp_path / HISTORY).add("who?")
    assert History(tmp_path / HISTORY).read() == []
    assert other.read_text() == "mine\n"


def test_a_long_history_is_cut_and_a_readable_one_closed(tmp_path: Path) -> None:
    path = tmp_path / HISTORY
    path.write_text("".join(f"q{number}\n" for number in range(2500)))
    path.chmod(0o644)
    history = History(path)
    assert history.read() == [f"q{number}" for number in range(1500, 2500)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    history.add("last")
    lines = path.read_text().splitlines()
    assert len(lines) == 1001
    assert lines[-1] == "last"
