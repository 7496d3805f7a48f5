"""Rows say where they come from."""

import subprocess
import sys
from pathlib import Path

import pytest
import rows as benchmark_rows

from fidkit import __version__
from fidkit.bench import rows
from fidkit.errors import DataError


def test_a_row_has_its_provenance() -> None:
    row = rows.make_row("trial", ("torch", "fidkit", "no-such-package"), outcome=3)
    assert {"schema", "kind", "git", "command", "hardware", "versions", "outcome"} == row.keys()
    assert (row["schema"], row["kind"], row["outcome"]) == (1, "trial", 3)
    assert {"machine", "cpu", "cores"} == row["hardware"].keys()
    assert row["versions"]["fidkit"] == __version__
    assert row["versions"]["no-such-package"] is None
    assert row["versions"]["python"].startswith(f"{sys.version_info.major}.")


def test_benchmarks_have_the_same_rows() -> None:
    assert benchmark_rows.row is rows.make_row
    assert benchmark_rows.read is rows.read


def test_rows_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    assert list(rows.read(path)) == []
    rows.append(path, {"a": 1})
    benchmark_rows.append(path, {"a": 2})
    assert list(rows.read(path)) == [{"a": 1}, {"a": 2}]
    assert capsys.readouterr().out == '{"a": 2}\n'


@pytest.mark.parametrize("line", ["[1]", "{", '{"a": ' + 100_000 * "["], ids=["list", "cut", "deep"])
def test_a_line_that_is_no_row_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(
        DataError, match=r"rows\.jsonl, line 2: expected a row as a JSON object, but "
    ) as caught:
        list(rows.read(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        (["/somewhere/bin/fidkit", "bench", "tiny-fid"], "fidkit bench tiny-fid"),
        (["/somewhere/fidkit/__main__.py", "bench", "--out", "a b"], "fidkit bench --out 'a b'"),
        (["benchmarks/parity.py", "--seed", "1"], "python benchmarks/parity.py --seed 1"),
    ],
)
def test_the_command_is_what_was_typed(
    typed: list[str], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", typed)
    assert rows.command() == wanted


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *identity, "-C", str(folder), *words], check=True, capture_output=True)


def test_the_revision_is_fidkits_own(tmp_path: Path) -> None:
    package = tmp_path / "src" / "fidkit"
    package.mkdir(parents=True)
    assert rows.revision(package) == "unknown"
    (package / "a.py").write_text("", encoding="utf-8")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    git(tmp_path, "tag", "v1")
    clean = rows.revision(package)
    assert len(clean) == 12
    (package / "a.py").write_text("changed", encoding="utf-8")
    assert rows.revision(package) == f"{clean}-dirty"
    # Installed somewhere below, the checkout's revision says nothing of the package.
    installed = tmp_path / ".venv" / "fidkit"
    installed.mkdir(parents=True)
    assert rows.revision(installed) == "unknown"


def test_without_git_the_revision_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert rows.revision() == "unknown"
