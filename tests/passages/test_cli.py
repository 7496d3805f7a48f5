import json
import time

import pytest
from typer.testing import CliRunner

from fidkit.cli import building
from fidkit.cli.app import run as whole_command
from fidkit.cli.corpus import app
from fidkit.passages.local import vectors, watch
from fidkit.passages.local.report import BuildProgress

runner = CliRunner()


def run(*arguments: object):
    return runner.invoke(app, [str(argument) for argument in arguments])


def test_build_search_info(docs, tmp_path):
    (docs / "bad.txt").write_bytes(b"\xff\0")
    built = run("build", docs, "--to", tmp_path / "c")
    assert built.exit_code == 0
    assert "3 passages" in built.stdout
    assert "4 files read, 0 removed, 1 left out" in built.stdout
    assert f'fidkit ask "YOUR QUESTION" --in {tmp_path / "c"}' in built.stderr
    found = run("search", tmp_path / "c", "where is tea from?", "-k", "1")
    assert "tea.md:0-" in found.stdout
    assert "left out     1 file\n" in run("info", tmp_path / "c").stdout


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
    assert f"left out: 5 files: {reason}: 0.bin, 1.bin, 2.bin and 2 more\n" in built.stderr
    some, every = (run("info", tmp_path / "c", *option).stdout for option in ((), ("--all",)))
    assert f"left out     5 files: {reason}: 0.bin, 1.bin, 2.bin and 2 more\n" in some
    assert f"left out     4.bin: {reason}\n" in every
    listed = json.loads(run("info", tmp_path / "c", "--json").stdout)["skipped_files"]
    assert [file["file"] for file in listed] == [f"{number}.bin" for number in range(5)]
    assert "1 file, 0.0 MB, 1 passage\n" in some


def test_of_many_reasons_the_first_are_said_and_the_others_counted(docs, tmp_path):
    for ending in ("pdf", "docx", "xlsx", "epub", "odt", "ods", "bin"):
        (docs / f"broken.{ending}").write_bytes(b"nothing of it")
    told = run("build", docs, "--to", tmp_path / "c").stderr.splitlines()
    skipped = [line for line in told if line.startswith("left out: ")]
    assert len(skipped) == 5
    listed = json.loads(run("info", tmp_path / "c", "--json").stdout)["skipped_files"]
    left = len({file["reason"] for file in listed}) - 5
    assert left > 0
    noun = "reason" if left == 1 else "reasons"
    assert f"... and {left} more {noun}, see `fidkit corpus info {tmp_path / 'c'}`" in told


def test_the_time_that_is_left_follows_from_the_bytes_that_were_read():
    state = BuildProgress("read", 25, 100, 7, 2, 8)
    assert (
        building._how_far(state, time.monotonic() - 10) == "reading passages, 2 of 8 files, 25 %, 0:30 left"
    )
    assert building._how_far(state, time.monotonic()) == "reading passages, 2 of 8 files, 25 %"
    small = BuildProgress("read", 9, 1000, 7, 2, 8)  # small files before a large one foretell nothing
    assert building._how_far(small, time.monotonic() - 10) == "reading passages, 2 of 8 files, 1 %"
    nothing = BuildProgress("read", 0, 100, 0, 0, 8)
    assert building._how_far(nothing, time.monotonic() - 10) == "reading passages, 0 of 8 files, 0 %"


def test_memory_and_vectors_go_together(docs, tmp_path, capsys):
    command = ["corpus", "build", str(docs), "--to", str(tmp_path / "c"), "--memory", "pocket"]
    for more, says in (
        ("--no-vectors", "--memory makes vectors and memory together; leave --no-vectors out"),
        ("--watch", "--watch brings no memory up to date; leave --memory out"),
    ):
        assert whole_command([*command, more]) == 2
        assert says in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_a_corpus_that_is_searched_by_words_alone_says_so(docs, tmp_path, monkeypatch):
    for module in (building, vectors):
        monkeypatch.setattr(module, "MOST_UNASKED", 2)
    said = "note: searched by words alone; --vectors adds search by meaning, in about"
    assert said in run("build", docs, "--to", tmp_path / "many").stderr
    assert said not in run("build", docs, "--to", tmp_path / "asked", "--no-vectors").stderr
    monkeypatch.setattr(building, "MOST_UNASKED", 3)
    assert said not in run("build", docs, "--to", tmp_path / "few").stderr


def test_pages_without_text_are_said(docs, tmp_path):
    pdfium = pytest.importorskip("pypdfium2")
    scan = pdfium.PdfDocument.new()
    page, picture = scan.new_page(200, 200), pdfium.PdfImage.new(scan)
    picture.set_bitmap(pdfium.PdfBitmap.new_native(10, 10, pdfium.raw.FPDFBitmap_BGR))
    picture.set_matrix(pdfium.PdfMatrix().scale(200, 200))
    page.insert_obj(picture)
    page.gen_content()
    scan.save(docs / "scan.pdf")
    built = run("build", docs, "--to", tmp_path / "c")
    assert "note: 1 document has pages without text, which may be scans; `fidkit corpus info" in built.stderr


@pytest.mark.parametrize(("option", "wanted"), [([], None), (["--vectors"], True), (["--no-vectors"], False)])
def test_following_makes_the_vectors_that_were_asked_for(docs, tmp_path, monkeypatch, option, wanted):
    followed = []
    monkeypatch.setattr(watch, "follow", lambda *given, **more: followed.append((given, more)) or iter(()))
    run("build", docs, "--to", tmp_path / "c", "--watch", *option)
    [(given, more)] = followed
    assert given == ([str(docs)], tmp_path / "c")
    assert more["vectors"] is wanted
    assert more["encoder"] is not None


def test_sources_that_are_named_no_more_are_said(docs, tmp_path):
    (docs / "more.txt").write_text("Maté comes from Paraguay.")
    assert "note" not in run("build", docs / "tea.md", docs / "more.txt", "--to", tmp_path / "c").stderr
    dropped = run("build", docs / "tea.md", "--to", tmp_path / "c").stderr
    said = f"note: what it had of {docs / 'more.txt'} is out of it; name all sources to keep them\n"
    assert said in dropped
    assert said not in run("build", docs / "tea.md", "--to", tmp_path / "c").stderr
