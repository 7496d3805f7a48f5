"""`fidkit show`: a passage in its surroundings, wherever its name is from."""

import json
import os
from pathlib import Path

import pytest

from fidkit.cli.app import run
from fidkit.passages import Corpus
from fidkit.passages.filter import Filter
from fidkit.passages.load import table
from fidkit.passages.load.document import Block
from fidkit.passages.load.table import Loader
from fidkit.passages.showing import surroundings
from fidkit.reader import Reader

PAGES = "paged The rent is due in March.\fThe deposit is two months of rent.\fKeys are with Ada."


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(table.LOADERS, ".odd", Loader("document", "odd_loaders:read"))
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    (folder / "tea.md").write_text(
        "# Tea\n\nTea comes from China.\n\nIt is drunk hot.\n\nIt is old.\n\nThe end.\n"
    )
    (folder / "deep" / "lease.odd").write_text(PAGES)
    (folder / "box.odd").write_text("several notes/a.txt=Rooibos comes from South Africa.")
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert run(["show", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_a_passage_is_marked_between_its_paragraphs(docs, capsys):
    out = said(capsys, "tea.md:17-21", "--in", docs)
    assert out.startswith("tea.md, 17-21\ntitle: Tea\n")
    assert "\nTea comes »from« China.\n\nIt is drunk hot." in out
    assert out.rstrip().endswith("It is drunk hot. …")


def test_a_place_is_taken_as_it_is_told(docs, capsys):
    for place in ("tea.md:17-21", "deep/lease.odd:31-38"):
        out = said(capsys, place, "--in", docs)
        assert said(capsys, out.split("\n")[0], "--in", docs) == out


def test_why_a_document_is_not_there_is_said(docs, capsys):
    (docs / "photo.txt").write_bytes(b"\xff\0")
    assert run(["show", "photo.txt", "--in", str(docs)]) == 1
    assert "error: photo.txt was left out: binary, not text\n" in capsys.readouterr().err


def test_pages_are_said(docs, capsys):
    text = "The rent is due in March.\n\nThe deposit is two months of rent."
    start = text.index("two")
    out = said(capsys, f"deep/lease.odd:{start}-{start + 10}", "--in", docs)
    assert out.startswith(f"deep/lease.odd, page 2, {start}-{start + 10}\ntitle: A report\nauthor: Ada\n")
    assert "note: page 9 has no text" in out
    assert "The deposit is »two months« of rent." in out


def test_json_is_one_object(docs, capsys):
    record = json.loads(said(capsys, "deep/lease.odd:31-38", "--in", docs, "--json"))
    assert (record["text"], record["span"], record["where"]) == ("deposit", [31, 38], {"page": "2"})
    assert (record["before"] + record["text"] + record["after"]).count("\n\n") == 2
    assert record["boxes"] == [{"page": 2, "left": 12.0, "top": 0.0, "right": 22.0, "bottom": 6.0}]
    assert record["file"] == str(docs / "deep" / "lease.odd")
    assert json.loads(said(capsys, "tea.md", "--in", docs, "--json"))["text"] == (docs / "tea.md").read_text()


@pytest.mark.parametrize("place", ["folder", "corpus", "file", "built above"])
def test_the_documents_are_found_by_the_source_itself(docs, tmp_path, capsys, place, monkeypatch):
    """The cache of a folder above that was asked before, a corpus that is named, or else the file alone."""
    source = docs / "deep" / "lease.odd"
    if place == "folder":
        Reader.from_preset("tiny-fid").save_pretrained(tmp_path / "reader")
        assert run(["ask", "what?", "--in", str(docs), "--reader", str(tmp_path / "reader")]) == 0
        capsys.readouterr()
    elif place == "corpus":
        Corpus.build(docs, tmp_path / "built").close()
        source = tmp_path / "built" / "deep" / "lease.odd"
    elif place == "built above":
        monkeypatch.chdir(docs / "deep")
        source = Path("lease.odd")
    out = said(capsys, f"{source}:31-38")
    named = "deep/lease.odd" if place in ("folder", "corpus") else "lease.odd"
    assert out.startswith(f"{named}, page 2, 31-38")
    assert "The »deposit« is" in out


@pytest.mark.parametrize(
    ("name", "called"),
    [(b"tea\xff.md", "tea\\xff.md"), (b"two\nlines.md", "two\\nlines.md"), ("thé.md".encode(), "thé.md")],
)
def test_a_file_is_found_by_its_path_as_a_shell_has_it(docs, capsys, name, called):
    """Python hides bytes that are no UTF-8 in half characters; documents are called as is printed."""
    try:
        (docs / os.fsdecode(name)).write_text("Rooibos comes from South Africa.")
    except OSError:
        pytest.skip("this file system takes no such name")
    for source in (os.fsdecode(name), called):
        out = said(capsys, f"{source}:0-7", "--in", docs)
        assert out == f"{called}, 0-7\n\n»Rooibos« comes from South Africa.\n"
    assert out == said(capsys, f"{docs / os.fsdecode(name)}:0-7")
    with Corpus.build(docs, docs.parent / "c") as corpus:
        where = Filter.parse([f"source={os.fsdecode(name)}"])
        assert [hit.passage.source for hit in corpus.search("rooibos", where=where)] == [f"{called}:0-32"]
    assert run(["show", os.fsdecode(b"no\xff"), "--in", str(docs)]) == 1
    assert r"no document is called 'no\\xff'" in capsys.readouterr().err


def test_a_member_of_a_file_is_found_behind_it(docs, capsys):
    assert "»Rooibos« comes" in said(capsys, f"{docs}/box.odd/notes/a.txt:0-7")
    assert "»Rooibos« comes" in said(capsys, "box.odd/notes/a.txt:0-7", "--in", docs)


def test_what_fidkit_answers_from_by_itself_is_shown_too(capsys):
    assert said(capsys, "corpus.md:0-9").startswith("corpus.md, 0-9")


def test_without_characters_all_of_a_document_is_shown(docs, capsys):
    out = said(capsys, "tea.md", "--in", docs)
    assert out == f"tea.md, 69 characters\ntitle: Tea\n\n{(docs / 'tea.md').read_text()}\n"


@pytest.mark.parametrize(
    ("source", "code", "line"),
    [
        ("tee.md:1-2", 1, "no document is called 'tee.md'; did you mean tea.md"),
        (
            "tea.md:50-500",
            2,
            "characters 50 to 500 of a document that has 69; expected two numbers from 0 to 69",
        ),
        ("tea.md:9-9", 2, "the smaller first"),
        ("tea.md:9-3", 2, "the smaller first"),
    ],
)
def test_what_is_not_there_is_said(docs, capsys, source, code, line):
    assert run(["show", source, "--in", str(docs)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert line in err


@pytest.fixture
def lease(docs, monkeypatch) -> Path:
    """A PDF of two pages."""
    canvas = pytest.importorskip("reportlab.pdfgen.canvas")
    monkeypatch.setitem(table.LOADERS, ".pdf", Loader("document", "fidkit.passages.load.pdf:read_pdf"))
    path = docs / "lease.pdf"
    drawn = canvas.Canvas(str(path), pagesize=(300, 200))
    for line in ("The rent is due in March.", "The deposit is two months of rent."):
        drawn.drawString(20, 150, line)
        drawn.showPage()
    drawn.save()
    return path


def test_a_picture_has_the_passage_marked(docs, lease, tmp_path, capsys):
    Corpus.build(docs, tmp_path / "built").close()
    text = Corpus.open(tmp_path / "built").document("lease.pdf").text
    start = text.index("deposit")
    arguments = [f"lease.pdf:{start}-{start + 7}", "--in", tmp_path / "built"]
    pictures = []
    for number, span in enumerate((f"{start}-{start + 7}", "0-3")):
        picture = tmp_path / f"{number}.png"
        said(capsys, f"lease.pdf:{span}", *arguments[1:], "--picture", picture)
        pictures.append(picture.read_bytes())
        assert pictures[-1].startswith(b"\x89PNG")
    assert pictures[0] != pictures[1]
    (box,) = json.loads(said(capsys, *arguments, "--json"))["boxes"]
    # From the top of the page, on whose lower edge a PDF counts.
    assert (box["page"], 38 < box["top"] < 50 < box["bottom"] < 56) == (2, True)
    again = ["show", *map(str, arguments), "--picture", str(tmp_path / "again.png")]
    lease.write_bytes(b"another")
    assert run(again) == 2
    assert "lease.pdf: its file was written to since it was read" in capsys.readouterr().err
    lease.unlink()
    assert run(again) == 2
    assert (
        "lease.pdf: its file can't be read (No such file or directory); a picture needs it"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("source", ["tea.md:2-5", "deep/lease.odd"])
def test_a_picture_needs_characters_of_a_page(docs, tmp_path, capsys, source):
    assert run(["show", source, "--in", str(docs), "--picture", str(tmp_path / "x.png")]) == 2
    assert "no page to make a picture of; expected characters of a PDF, such as" in capsys.readouterr().err


def test_a_picture_is_a_png_and_called_so(docs, lease, tmp_path, capsys):
    Corpus.build(docs, tmp_path / "built").close()
    arguments = ["show", "lease.pdf:0-3", "--in", str(tmp_path / "built"), "--picture"]
    assert run([*arguments, str(tmp_path / "page.txt")]) == 2
    assert f"page.txt: pictures are PNG; call it {tmp_path / 'page.png'}" in capsys.readouterr().err
    assert not (tmp_path / "page.txt").exists()
    for name in ("page", "PAGE.PNG"):
        assert run([*arguments, str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_long_surroundings_are_cut_between_words():
    text = "word " * 1000
    low, high = surroundings(text, (Block(0, 4999),), 2500, 2504)
    assert 0 < low < 2500 < 2504 < high < 5000
    assert text[low - 1] == " "
    assert text[high] == " "
    assert surroundings("x" * 9000, (), 4000, 4001) == (3200, 4801)


def test_the_blocks_beside_a_span_are_shown():
    blocks = tuple(Block(10 * n, 10 * n + 8) for n in range(6))
    assert surroundings("x" * 60, blocks, 22, 33) == (10, 48)
    assert surroundings("x" * 60, blocks, 0, 3) == (0, 18)
    assert surroundings("x" * 60, blocks, 55, 58) == (40, 58)
    assert surroundings("x" * 60, blocks, 28, 30) == (20, 38)  # between two


def test_ask_says_the_page(docs, tmp_path, capsys):
    Reader.from_preset("tiny-fid").save_pretrained(tmp_path / "reader")
    asked = ["ask", "what is the deposit?", "--in", str(docs), "--reader", str(tmp_path / "reader")]
    assert run(asked) == 0
    out = capsys.readouterr().out
    assert "[deep/lease.odd, pages 1-3, 0-81]" in out
    assert run([*asked, "--json"]) == 0
    evidence = json.loads(capsys.readouterr().out)["evidence"]
    by_source = {e["source"].split(":")[0]: e for e in evidence}
    assert by_source["deep/lease.odd"]["where"] == {"page": "1-3"}
    assert by_source["deep/lease.odd"]["boxes"] == []
