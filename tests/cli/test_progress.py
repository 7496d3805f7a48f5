"""Progress without a terminal."""

import pytest

from fidkit.cli import progress as module
from fidkit.cli.progress import progress


def test_plain_lines_on_stderr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 4.0, 11.0, 11.0, 20.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with progress("indexing", total=100) as job:
        job.advance()  # after 4 s: too early for a line
        job.describe("writing")
        job.advance(54)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "writing: 55 of 100, 5.0/s, 0:11, 0:09 left",
        "writing: 55 of 100, 2.8/s, 0:20, 0:16 left",
    ]


def test_unknown_total_and_failure_still_end_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    def failing_job() -> None:
        with progress("reading") as job:
            job.advance(3)
            raise KeyError

    with pytest.raises(KeyError):
        failing_job()
    err = capsys.readouterr().err
    assert err.startswith("reading: 3, ")
    assert err.count("\n") == 1


def test_nothing_done_is_nothing_said(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading", total=0) as job:
        job.describe("looking")
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    with progress("indexing", total=2) as job:
        job.advance(2)
        job.describe("done")
    out, err = capsys.readouterr()
    assert out == ""
    assert "done" in err
    assert "2/2" in err
