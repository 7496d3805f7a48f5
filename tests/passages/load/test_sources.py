import os
from pathlib import Path

import pytest

from fidkit.errors import CorpusError, UsageError
from fidkit.passages import Corpus, default_location
from fidkit.passages.load.sources import discover
from fidkit.passages.load.table import CODE, described


def kinds(*sources: Path) -> dict[str, str]:
    return {file.name: file.kind for file in discover(sources)}


def test_folders_are_searched_but_not_what_is_hidden(docs):
    (docs / ".git").mkdir()
    (docs / ".git" / "x.md").write_text("x")
    (docs / ".hidden.md").write_text("x")
    (docs / "picture.png").write_bytes(b"\x89PNG")
    (docs / "gone.txt").symlink_to(docs / "nowhere")
    (docs / "elsewhere").symlink_to(docs / "deep")
    (docs / "circle.txt").symlink_to(docs / "circle.txt")
    notes = {file.name: file.note for file in discover([docs]) if file.kind == "skipped"}
    assert notes == {
        ".git/": "hidden",
        ".hidden.md": "hidden",
        "circle.txt": "Too many levels of symbolic links",
        "elsewhere/": "a link to a folder; name that as a source of its own",
        "gone.txt": "a link whose target is missing; mend or remove it",
        "picture.png": "not a kind of file that is read",
    }
    assert {name: kind for name, kind in kinds(docs).items() if name not in notes} == {
        "coffee.txt": "document",
        "deep/cocoa.txt": "document",
        "tea.md": "document",
    }


def test_what_describes_passage_files_is_no_document(docs, write_rows):
    write_rows(docs / "deep" / "p.jsonl.gz", [{"text": "a"}])
    for place in (docs / "deep" / "readme.txt", docs / "README.md", docs / "deep" / "LICENSE.md"):
        place.write_text("of what is here")
    found = kinds(docs)
    assert found["deep/p.jsonl.gz"] == "passages"
    assert found["deep/readme.txt"] == found["deep/LICENSE.md"] == "skipped"
    assert found["deep/cocoa.txt"] == found["tea.md"] == found["README.md"] == "document"


def test_only_dpr_tables_are_passages(docs):
    (docs / "psgs.tsv").write_text("id\ttext\ttitle\n1\ta\tb\n")
    (docs / "deep" / "prices.tsv").write_text("item\tprice\n")
    (docs / "deep" / "broken.tsv").write_text("id\ttext\ttitle\n1\ta\n")
    found = kinds(docs)
    assert found["psgs.tsv"] == "passages"
    assert found["deep/prices.tsv"] == "document"
    assert found["deep/broken.tsv"] == "skipped"
    [named] = discover([docs / "deep" / "prices.tsv"])
    assert named.kind == "document"


def test_a_table_of_something_else_is_searched_by_its_rows(docs, tmp_path):
    (docs / "deep" / "prices.tsv").write_text("item\tprice\nteapot\t12 euros\n")
    with Corpus.build(docs / "deep", tmp_path / "a.corpus") as corpus:
        [hit] = corpus.search("teapot", 1)
    assert hit.passage.text.splitlines()[-1] == "item: teapot | price: 12 euros"


def test_names_are_unique(tmp_path):
    for folder in ("one/docs", "two/docs", "three/notes"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.md").write_text("a")
    one, two, three = (tmp_path / name for name in ("one/docs", "two/docs", "three/notes"))
    assert list(kinds(one)) == ["a.md"]
    assert list(kinds(one, three)) == ["docs/a.md", "notes/a.md"]
    assert list(kinds(one, two)) == [str(one / "a.md"), str(two / "a.md")]


def test_a_file_given_twice_counts_once(docs):
    assert len(discover([docs, docs / "tea.md", docs])) == 3


def test_a_file_that_several_links_lead_to_counts_once(docs, tmp_path):
    (docs / "again.md").symlink_to("tea.md")
    (tmp_path / "linked").symlink_to(docs)
    assert set(kinds(docs)) == {"again.md", "coffee.txt", "deep/cocoa.txt"}
    assert len(discover([docs, tmp_path / "linked"])) == 3


def test_a_named_file_of_any_ending_is_a_document(tmp_path):
    (tmp_path / "README").write_text("words")
    assert kinds(tmp_path / "README") == {"README": "document"}


def test_what_can_not_be_a_source(tmp_path, docs):
    with pytest.raises(UsageError, match="no sources"):
        discover([])
    with pytest.raises(CorpusError, match="nope: no such file or folder"):
        discover([docs, tmp_path / "nope"])
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(CorpusError, match=r"pipe\.txt: is a pipe, a device or a socket; expected documents"):
        discover([tmp_path / "pipe.txt"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="found nothing to read; expected"):
        discover([tmp_path / "empty"])
    (tmp_path / "empty" / "x.png").write_bytes(b"x")
    with pytest.raises(CorpusError, match=r"found nothing to read \(1 left out, the first: x\.png"):
        discover([tmp_path / "empty"])


def test_default_location_depends_on_absolute_paths_only(docs, tmp_path, monkeypatch):
    monkeypatch.setenv("FIDKIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(docs.parent)
    assert default_location(["docs"]) == default_location([docs])
    assert default_location(["docs"]) != default_location([docs / "deep"])
    assert default_location([docs]).is_relative_to(tmp_path / "home")


def test_a_log_is_no_passage_file_and_its_neighbours_are_documents(docs, write_rows):
    write_rows(docs / "log.jsonl", [{"step": 1, "loss": 2.0}])
    (docs / "empty.jsonl").write_text("")
    found = {file.name: file for file in discover([docs])}
    assert found["log.jsonl"].note == "line 1: expected a passage with a non-empty string as text, got none"
    assert found["empty.jsonl"].note == "empty"
    assert found["tea.md"].kind == "document"
    assert discover([docs / "log.jsonl"])[0].kind == "passages"


def test_a_file_of_a_folder_that_is_named_too_is_read(docs, write_rows):
    write_rows(docs / "p.jsonl", [{"text": "a"}])
    (docs / "README.md").write_text("about the rows")
    assert kinds(docs)["README.md"] == "skipped"
    assert kinds(docs, docs / "README.md")["README.md"] == "document"


def test_names_of_any_bytes_are_told_apart(tmp_path):
    for name in (b"caf\xe9.md", b"caf\xe8.md", b"caf\\xe9.md", "café.md".encode()):
        (tmp_path / os.fsdecode(name)).write_text(repr(name))
    names = sorted(kinds(tmp_path))
    assert len(set(names)) == 4
    assert all(name.encode() and name.endswith(".md") for name in names)
    assert {"café.md", r"caf\xe8.md"} <= set(names)


def test_help_and_documents_list_the_kinds_of_files():
    listed = described()
    assert listed.startswith("documents (.txt, .md, .markdown, .rst, .html, .htm, .xhtml, .pdf, .docx, ")
    assert ".zip or source code) or passage files (.jsonl or .tsv), packed or not (.gz)" in listed
    page = Path(__file__).parents[3] / "docs" / "corpus.md"
    assert listed in page.read_text(encoding="utf-8")
    assert f"{', '.join(CODE[:-1])} or {CODE[-1]}" in page.read_text(encoding="utf-8")


def test_folders_may_lie_in_one_another_a_thousand_times(docs, monkeypatch):
    (docs / "z").mkdir()
    (docs / "z" / "last.txt").write_text("last")
    monkeypatch.chdir(docs)
    for _ in range(1_200):
        os.mkdir("a")
        os.chdir("a")
    Path("deep.txt").write_text("deep down")
    names = list(kinds(docs))
    Path("deep.txt").unlink()
    for _ in range(1_200):  # what clears up after tests goes no further than `os.walk`
        os.chdir("..")
        os.rmdir("a")
    assert (names.index("a/" * 1_200 + "deep.txt") > 0, names[-1]) == (True, "z/last.txt")


def test_a_path_that_is_too_long_is_named(docs, monkeypatch):
    monkeypatch.chdir(docs)
    for _ in range(20):
        os.mkdir("a" * 250)
        os.chdir("a" * 250)
    notes = [file.note for file in discover([docs]) if file.kind == "skipped"]
    assert notes == ["File name too long"]


def test_a_document_larger_than_any_is_not_opened(docs):
    for name in ("a.txt", "b.pdf", "c.jsonl"):
        with (docs / name).open("wb") as file:
            file.truncate(10_000_000_000)
    notes = {file.name: file.note for file in discover([docs]) if file.kind == "skipped"}
    assert notes["a.txt"] == notes["b.pdf"] == "larger than 4,295 MB, the most that is read; split it"
    # Passage files may be larger; this one is none.
    assert notes["c.jsonl"].endswith("expected a passage on a line, got a line of more than 16 MB")


def test_a_link_to_nothing_is_said_to_be_one(docs):
    (docs / "gone.txt").symlink_to("nowhere.txt")
    with pytest.raises(CorpusError, match=r"gone\.txt: a link whose target is missing; mend or remove it"):
        discover([docs / "gone.txt"])
    with pytest.raises(CorpusError, match=r"nowhere\.txt: no such file or folder; expected documents"):
        discover([docs / "nowhere.txt"])
