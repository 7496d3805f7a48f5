"""What is said of a corpus: what was left out, by reason, and which documents have pages without text."""

import io
import os
from pathlib import Path

import pytest
from reportlab.pdfgen.canvas import Canvas

from fidkit.cli.app import run
from fidkit.errors import CorpusError
from fidkit.passages import Corpus
from fidkit.passages.load.workers import Limits
from fidkit.passages.local.build import build
from fidkit.passages.local.info import grouped
from fidkit.passages.local.report import BuildProgress
from fidkit.passages.opening import open_sources


def scan(*texts: str) -> bytes:
    """A PDF with a page a text; one without has something drawn."""
    stream = io.BytesIO()
    canvas = Canvas(stream, invariant=1)
    for text in texts:
        if text:
            canvas.drawString(72, 700, text)
        else:
            canvas.rect(72, 72, 300, 300, fill=1)
        canvas.showPage()
    canvas.save()
    return stream.getvalue()


def test_the_same_of_several_is_said_once_with_a_few_names() -> None:
    said = [(f"{n}.bin", "not read") for n in range(5)] + [("a\nleft out b.txt", ""), ("c.md", "binary")]
    assert list(grouped(said, "file", every=False)) == [
        "5 files: not read: 0.bin, 1.bin, 2.bin and 2 more",
        r"a\nleft out b.txt: empty",
        "c.md: binary",
    ]
    assert list(grouped(said, "file", every=True))[:2] == ["0.bin: not read", "1.bin: not read"]
    assert len(list(grouped(said, "file", every=True))) == 7
    assert list(grouped(said[:4], "file", every=False)) == [
        "4 files: not read: 0.bin, 1.bin, 2.bin and 1 more"
    ]
    assert list(grouped(said[:2], "file", every=False)) == ["2 files: not read: 0.bin, 1.bin"]


def test_what_was_left_out_is_said_by_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in ("a.md", "b.txt", "c.txt"):
        (folder / name).write_text("words")
    for number in range(2):
        for name in (f"{number}.bin", f"~${number}.docx", f"{number}.jsonl", f".{number}"):
            (folder / name).touch()
        (folder / f"link{number}").symlink_to(tmp_path)
        (folder / f"gone{number}.txt").symlink_to(folder / f"nowhere{number}")
    assert run(["corpus", "build", str(folder), "--to", str(tmp_path / "c"), "--no-vectors"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if line.startswith("left out: 2 files: ")]) == 5
    assert f"... and 1 more reason, see `fidkit corpus info {tmp_path / 'c'}`" in said
    with Corpus.open(tmp_path / "c") as corpus:
        info = corpus.info()
    left_out = info.left_out()
    assert list(info.kinds) == [".txt", ".md"]  # the most first
    assert left_out.startswith("10 of 13 files were left out (")
    assert "; other reasons: 4); " in left_out
    assert "hidden" not in left_out


def test_documents_with_pages_without_text_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, texts in {"a": ("words", ""), "b": ("", "", "more words"), "c": ("only words",)}.items():
        (folder / f"{name}.pdf").write_bytes(scan(*texts))
    with Corpus.build([folder], tmp_path / "c") as corpus:
        info = corpus.info()
    said = "2 documents have pages without text, which may be scans; `fidkit corpus info "
    assert info.without_text() == f"{said}{info.path}` says which"
    monkeypatch.setenv("FIDKIT_HOME", str(tmp_path / "home"))
    corpus, notes = open_sources(folder)
    corpus.close()
    assert [note.split("`")[0] for note in notes] == [info.without_text().split("`")[0]]
    (folder / "a.pdf").unlink()
    (folder / "b.pdf").write_bytes(scan("words"))
    with Corpus.build([folder], tmp_path / "c") as corpus:
        assert corpus.info().without_text() == ""


def test_a_file_that_vanishes_while_others_are_read_is_left_out(tmp_path: Path) -> None:
    """Where a whole source is gone, a share may be lost: nothing that it held is forgotten."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in ("a.txt", "b.txt", "c.csv", "d.txt"):
        (folder / name).write_text("Ship,Masts\nAurora,3\n")

    def delete(state: BuildProgress) -> None:
        for name in ("b.txt", "c.csv"):
            (folder / name).unlink(missing_ok=True)

    def lose(state: BuildProgress) -> None:
        if folder.exists() and os.listdir(folder):
            folder.rename(tmp_path / "elsewhere")
            folder.mkdir()

    with Corpus.build([folder], tmp_path / "c", delete) as corpus:
        assert corpus.info().skipped_files == [
            ("b.txt", "it was deleted or moved meanwhile"),
            ("c.csv", "it was deleted or moved meanwhile"),
        ]
        held = corpus.info().passages
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text("other words")
    with pytest.raises(CorpusError, match=r"b.txt: can't be read \(No such file or directory\)"):
        Corpus.build([folder], tmp_path / "c", lose)
    with Corpus.open(tmp_path / "c") as corpus:
        assert corpus.info().passages == held


def test_large_texts_are_read_apart(tmp_path: Path) -> None:
    """A text that would take all memory here is left out there."""
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text("small words")
    with (folder / "b.txt").open("wb") as file:
        file.truncate(600_000_000)
    limits = Limits(memory_bytes=1 << 29)
    build([folder], tmp_path / "c", limits=limits)
    with Corpus.open(tmp_path / "c") as corpus:
        assert corpus.info().skipped_files == [("b.txt", "needs more than 537 MB of memory to be read")]
