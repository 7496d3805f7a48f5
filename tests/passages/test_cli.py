import json

import pytest
from typer.testing import CliRunner

from fidkit.cli.app import run as whole_command
from fidkit.cli.corpus import app

runner = CliRunner()


def run(*arguments: object):
    return runner.invoke(app, [str(argument) for argument in arguments])


def test_build_search_info(docs, tmp_path):
    (docs / "bad.txt").write_bytes(b"\xff\0")
    built = run("build", docs, "--to", tmp_path / "c")
    assert built.exit_code == 0
    assert "3 passages" in built.stdout
    assert "4 files read, 0 removed, 1 skipped" in built.stdout
    assert f'fidkit ask "YOUR QUESTION" --in {tmp_path / "c"}' in built.stderr
    found = run("search", tmp_path / "c", "where is tea from?", "-k", "1")
    assert "tea.md#1" in found.stdout
    assert "skipped      1 file\n" in run("info", tmp_path / "c").stdout


def test_json_is_one_object(docs, tmp_path):
    built = json.loads(run("build", docs, "--to", tmp_path / "c", "--json").stdout)
    assert (built["passages"], built["build"]["files_read"]) == (3, 3)
    found = json.loads(run("search", tmp_path / "c", "coffee", "--json").stdout)
    assert found["hits"][0]["id"] == "coffee.txt#1"
    assert set(found["hits"][0]) == {"id", "title", "text", "score", "source"}
    by_words = run("search", tmp_path / "c", "zebra", "--by", "words", "--json")
    assert json.loads(by_words.stdout)["hits"] == []
    assert json.loads(run("info", tmp_path / "c", "--json").stdout)["fingerprint"] == built["fingerprint"]


def test_an_error_is_the_only_thing_said(tmp_path):
    failed = run("build", tmp_path / "nope", "--to", tmp_path / "c")
    assert failed.exception is not None
    assert "no such file or folder" in str(failed.exception)
    assert failed.output == ""


@pytest.mark.parametrize("arguments", [["build"], ["build", "x"], ["search", "x"], ["info"]])
def test_missing_arguments_are_wrong_use(arguments):
    assert whole_command(["corpus", *arguments]) == 2


def test_an_empty_source_is_not_this_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("Tea comes from Assam.")
    assert whole_command(["corpus", "build", "", "--to", str(tmp_path / "c")]) == 2
    assert "a source is empty; expected the path of a folder" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_names_that_are_too_long_are_said(tmp_path, capsys):
    assert whole_command(["corpus", "build", str(tmp_path), "--to", f"{tmp_path}/{'x' * 300}/c"]) == 1
    assert "unexpected" not in capsys.readouterr().err


def test_info_says_reasons_once_and_all_names_on_request(docs, tmp_path):
    for number in range(5):
        (docs / f"{number}.bin").write_bytes(b"x")
    built = run("build", docs, "--to", tmp_path / "c")
    reason = "not a kind of file that is read"
    assert f"skipped 5 files: {reason}: 0.bin, 1.bin, 2.bin and 2 more\n" in built.stderr
    some, every = (run("info", tmp_path / "c", *option).stdout for option in ((), ("--all",)))
    assert f"left out     5 files: {reason}: 0.bin, 1.bin, 2.bin and 2 more\n" in some
    assert f"left out     4.bin: {reason}\n" in every
    listed = json.loads(run("info", tmp_path / "c", "--json").stdout)["skipped_files"]
    assert [file["file"] for file in listed] == [f"{number}.bin" for number in range(5)]
    assert "1 file, 0.0 MB, 1 passage\n" in some
