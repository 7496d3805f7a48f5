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

AT_A_TERMINAL = """
import fcntl, sys, termios, time
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C reaches it
"""
ECHO = (
    AT_A_TERMINAL
    + """
from fidkit.cli.say import safe_streams
from fidkit.cli.prompt import answer_each

def answer(question):
    print(f"asked <{question}>", flush=True)
    if question == "slow":
        time.sleep(30)
        print("answered", flush=True)

with safe_streams():
    try:
        answer_each(answer)
    except KeyboardInterrupt:
        print("interrupted for good", flush=True)
print("the end", flush=True)
"""
)


class Terminal:
    """A process at a terminal of its own."""

    def __init__(self, home: Path, script: str = ECHO, **environment: str) -> None:
        self.mine, theirs = pty.openpty()
        self.seen, self.decoder = "", codecs.getincrementaldecoder("utf-8")()
        variables = {"FIDKIT_HOME": str(home), "TERM": "xterm", "INPUTRC": "/dev/null", "LC_ALL": "C.UTF-8"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", script], stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True, env=os.environ | variables | environment,
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

    def interrupt(self) -> None:
        time.sleep(0.2)  # Python sees no Ctrl-C between showing a key and waiting for the next
        self.type(CTRL_C)

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


def without_readline(tmp_path: Path) -> dict[str, str]:
    """An environment whose Python has no readline."""
    (tmp_path / "readline.py").write_text("raise ImportError('none')")
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}


@pytest.mark.parametrize("edits", [True, False])
def test_an_interruption_clears_the_line(tmp_path: Path, edits: bool) -> None:
    terminal = Terminal(tmp_path, **({} if edits else without_readline(tmp_path)))
    terminal.until("question: ")
    terminal.type("half a question")
    terminal.until("half a question")
    terminal.interrupt()
    terminal.until("question: ")
    terminal.type("another\r")
    terminal.until("asked <another>")
    terminal.until("question: ")
    terminal.end()
    assert (tmp_path / HISTORY).exists() is edits


@pytest.mark.parametrize("edits", [True, False])
def test_an_interruption_ends_an_answer_and_one_more_the_prompt(tmp_path: Path, edits: bool) -> None:
    terminal = Terminal(tmp_path, **({} if edits else without_readline(tmp_path)))
    for _ in range(2):  # a question between two interruptions
        terminal.until("question: ")
        terminal.type("slow\r")
        terminal.until("asked <slow>")
        terminal.interrupt()
        terminal.until("interrupted; Ctrl-C once more ends it")
    if edits:  # what is typed is cleared first
        terminal.until("question: ")
        terminal.type("half")
        terminal.until("half")
        terminal.interrupt()
    terminal.until("question: ")
    terminal.interrupt()
    assert "answered" not in terminal.until("(?s).*interrupted for good")
    terminal.until("the end")
    assert terminal.process.wait(20) == 0
    os.close(terminal.mine)


def test_after_an_answer_that_was_interrupted_the_next_is_as_ever(tmp_path: Path) -> None:
    (tmp_path / "note.md").write_text("# Boats\n\nThe ferry Aurora leaves from pier seven at noon. " * 30)
    # An answer that is long, and shown while it is written.
    ask = ["ask", "--in", str(tmp_path / "note.md"), "--stream", "--free", "--loops"]
    ask += ["--min-tokens", "90", "--max-tokens", "90"]
    terminal = Terminal(
        Path(os.environ["FIDKIT_HOME"]), AT_A_TERMINAL + f"from fidkit.cli import main\nmain({ask!r})"
    )
    answers = []
    for number in range(3):
        terminal.until("question: ")
        terminal.type("Which ferry leaves at noon?\r")
        terminal.until(r"noon\?\r\n")
        if number == 1:
            terminal.until(r"\w+")
            terminal.interrupt()
            terminal.until("interrupted; Ctrl-C once more ends it")
        else:
            answers.append(terminal.until(r"(?s).*score -?\d").partition(" read in ")[0])
    assert answers[0] == answers[1]
    assert len(answers[0]) > 200
    terminal.until("question: ")
    terminal.type("\x04")
    assert terminal.process.wait(20) == 0
    os.close(terminal.mine)


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
