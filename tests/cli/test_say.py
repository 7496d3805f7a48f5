"""What others wrote is printed as text: no command of a terminal, and no character that can't be printed."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fidkit.cli.app import run
from fidkit.cli.say import plain, safe_streams, terminal
from fidkit.passages import Corpus

HOSTILE = "\x1b]0;owned\x07\x1b[31m tea \x9b2J\r\x7f\u202e\x08"


def test_controls_are_written_out_and_text_stays() -> None:
    assert plain("a\tb\nc — 茶 😀 é") == "a\tb\nc — 茶 😀 é"
    shown = plain(HOSTILE)
    assert shown == r"\u001b]0;owned\u0007\u001b[31m tea \u009b2J\u000d\u007f\u202e\u0008"
    assert json.loads(f'"{shown}"') == HOSTILE


def test_streams_are_plain_within_and_as_they_were_after(capsys: pytest.CaptureFixture[str]) -> None:
    with safe_streams():
        print(HOSTILE)
        print("name " + HOSTILE, file=sys.stderr)
        # What the bars of libraries do: to the beginning of the line, and up.
        sys.stderr.write("\r 50%\x1b[31m")
        sys.stderr.write("\n\x1b[A")
        terminal(sys.stdout).write("\x1b[1m")
    print("\x1b[0m")
    out, err = capsys.readouterr()
    assert out == plain(HOSTILE) + "\n\x1b[1m\x1b[0m\n"
    assert err == "name " + plain(HOSTILE) + "\n\r 50%\\u001b[31m\n\x1b[A"


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text(f"# Title {HOSTILE}\n\nTea comes from {HOSTILE} 😀 China.\n")
    (folder / "pic\x1b[31m.png").write_bytes(b"")
    return folder


def controls(text: str) -> set[str]:
    return {c for c in text if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or c == "\u202e"}


def test_no_verb_prints_a_control_character(docs: Path, tmp_path: Path, capsys) -> None:
    corpus = str(tmp_path / "corpus\x1b[1m")
    for command in (
        ["corpus", "build", str(docs), "--to", corpus],
        ["corpus", "info", corpus],
        ["corpus", "search", corpus, "tea"],
        ["ask", "where does tea come from?", "--in", corpus],
        ["ask", "where does tea come from?", "--in", str(docs)],
    ):
        assert run(command) == 0
        out, err = capsys.readouterr()
        assert controls(out) == controls(err) == set()
        assert r"\u001b[" in out + err
    assert run(["ask", "who?", "--in", "no\x1b[31m/such"]) == 1
    assert controls(capsys.readouterr().err) == set()


def test_a_name_stands_on_one_line_wherever_it_is_shown(tmp_path: Path, capsys) -> None:
    folder, corpus = tmp_path / "docs", str(tmp_path / "c")
    folder.mkdir()
    (folder / "a\nnote: b\t\x1b.md").write_text("Tea comes from China.")
    os.utime(folder / "a\nnote: b\t\x1b.md", (1e9, 1e9))
    (folder / "c\nerror: d.png").touch()
    name, left = r"a\nnote: b\t\u001b.md", r"c\nerror: d.png"
    said = ""
    for command in (
        ["corpus", "build", str(folder), "--to", corpus],
        ["corpus", "info", corpus],
        ["corpus", "search", corpus, "tea", "--explain"],
        ["corpus", "check", corpus],
        ["ask", "where does tea come from?", "--in", corpus],
        ["show", f"{name}:0-21", "--in", corpus],
    ):
        assert run(command) == 0
        out, err = capsys.readouterr()
        assert not re.search("^(note: b|error: d)", out + err, re.MULTILINE), command
        assert name in out + err or left in out + err or command[1] == "check"
        said += out + err
    assert name in said
    assert left in said
    assert "outdated" not in said  # its file is found again
    (folder / "a\nnote: b\t\x1b.md").write_text("Tea comes from India.")
    assert run(["corpus", "check", corpus]) == 0
    assert f"outdated  {name}: written to since" in capsys.readouterr().out


def test_passages_with_names_of_several_lines(tmp_path: Path, capsys) -> None:
    row = {"id": "1\n2", "title": "3\n4", "text": "Tea comes from China."}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    Corpus.build(tmp_path / "rows.jsonl", tmp_path / "c").close()
    assert run(["corpus", "search", str(tmp_path / "c"), "tea"]) == 0
    assert r"  1\n2  3\n4" in capsys.readouterr().out


def test_json_stays_exact(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ask", "where does tea come from?", "--in", str(docs), "--json"]) == 0
    [evidence] = json.loads(capsys.readouterr().out)["evidence"]
    assert f"Tea comes from {HOSTILE} 😀 China." in evidence["text"]


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_an_encoding_without_a_character_loses_no_answer(
    docs: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(*more: str) -> bytes:
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", out)
        assert run(["ask", "where does tea come from? 😀", "--in", str(docs), *more]) == 0
        out.flush()
        return out.buffer.getvalue()

    assert rb"\U0001f600" in said()
    assert "😀" in json.loads(said("--json"))["evidence"][0]["text"]


@pytest.mark.parametrize(
    ("environment", "marked", "sentence"),
    [
        # Where nobody says otherwise, Python takes a locale of C for one of UTF-8.
        ({}, "»{}«", "Cafés “say”—tea comes from »China«."),
        ({"PYTHONUTF8": "0"}, ">>{}<<", 'Caf\\xe9s "say"-tea comes from >>China<<.'),
    ],
)
def test_marks_are_readable_in_a_locale_of_ascii(
    environment: dict[str, str], marked: str, sentence: str, tmp_path: Path
) -> None:
    before = "and so it is said in all of the books that were written of it, " * 9
    text = f"{before}Cafés “say”—tea comes from China."
    (tmp_path / "a.md").write_text(text, "utf-8")
    told = {"PYTHONUTF8", "PYTHONIOENCODING"}
    kept = {name: value for name, value in os.environ.items() if name not in told}

    def said(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "fidkit", *command],
            env={**kept, "LC_ALL": "C", **environment}, stdout=subprocess.PIPE, check=True,
        )  # fmt: skip
        return done.stdout.decode("ascii" if environment else "utf-8")

    folder = ("--in", str(tmp_path))
    asked = said("ask", "where does tea come from?", *folder)
    assert sentence in asked
    assert ("... " if environment else "… ") in asked
    at = text.index("China")
    assert marked.format("China") in said("show", f"a.md:{at}-{at + 5}", *folder)
    assert said("corpus", "build", "--help").isascii()


def test_a_stream_that_is_no_file_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with safe_streams():
        print("\x1b")
    assert sys.stdout.getvalue() == "\\u001b\n"


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("stream", [Full(), None])
def test_results_that_go_nowhere_are_said_once(
    docs: Path, stream: Full | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stdin", io.StringIO("where does tea come from?\nand coffee?\n"))
    assert run(["ask", "--in", str(docs)]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    why = "No space left on device" if stream else "it is closed"
    assert said == [f"error: results can't be written to stdout ({why}); give them a place with room"]


@pytest.mark.parametrize("stream", [Full(), None])
def test_remarks_that_go_nowhere_lose_no_answer(
    docs: Path, stream: Full | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    assert run(["ask", "where does tea come from?", "--in", str(docs)]) == 0
    assert "China" in capsys.readouterr().out
    assert run(["nonsense"]) == 2
