"""Documents in a corpus: what is kept of them, where they stand, and what becomes of those that go wrong."""

import gzip
import json
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from fidkit.errors import CorpusError, DataError
from fidkit.passages import Corpus
from fidkit.passages.load import table
from fidkit.passages.load.table import Loader
from fidkit.passages.load.workers import Limits
from fidkit.passages.local import build as building
from fidkit.passages.local import builder
from fidkit.passages.local.check import check
from fidkit.passages.local.layout import FORMAT_VERSION
from fidkit.passages.opening import open_sources
from fidkit.passages.search.encoder import VectorEncoder
from word_vectors import encoder

PAGES = "paged The rent is due in March.\fThe deposit is two months of rent.\fKeys are with Ada."


@pytest.fixture(autouse=True)
def _odd(monkeypatch):
    monkeypatch.setitem(table.LOADERS, ".odd", Loader("document", "odd_loaders:read"))


@pytest.fixture
def folder(docs):
    """Three texts, a report of three pages, and a file of two documents."""
    (docs / "lease.odd").write_text(PAGES)
    (docs / "box.odd").write_text(
        "several notes/a.txt=Rooibos comes from South Africa.|b.txt=Mate is drunk hot."
    )
    return docs


def snapshot(corpus: Corpus) -> tuple:
    """What a search sees, and what is kept of documents."""
    sources = {passage.source.rsplit(":", 1)[0] for passage in corpus}
    kept = [(s, corpus.document(s).text, corpus.document(s).blocks, corpus.place(s)) for s in sorted(sources)]
    return list(corpus), corpus.info().fingerprint, kept, corpus.search("comes from", 9)


def test_documents_of_all_kinds_are_found_and_know_their_places(folder, tmp_path):
    corpus = Corpus.build(folder, tmp_path / "c")
    (hit,) = corpus.search("deposit", k=1)
    assert hit.passage.source.startswith("lease.odd:0-")
    start = corpus.document("lease.odd").text.index("two months")
    where = corpus.place("lease.odd", (start, start + 10))
    assert where.labels() == {"page": "2"}
    assert [(box.page, box.left, box.right) for box in where.boxes] == [(2, 36.0, 58.0)]
    assert corpus.place(hit.passage.source).labels() == {"page": "1-3"}
    assert corpus.search("rooibos")[0].passage.source.startswith("box.odd/notes/a.txt:0-")
    assert corpus.document("box.odd/b.txt").text == "Mate is drunk hot."
    assert corpus.place("no.odd").labels() == corpus.place("no.odd:1-2").labels() == {}
    assert corpus.document("lease.odd").record.facts == {"author": "Ada"}
    info = corpus.info()
    assert (info.files, info.documents, info.passages) == (5, 6, 6)
    assert info.notes == [("lease.odd", "page 9 has no text")]
    assert info.kinds[".odd"] == {
        "files": 2,
        "bytes": sum(path.stat().st_size for path in folder.glob("*.odd")),
        "passages": 3,
    }
    assert set(info.sizes) == {"catalogue", "index"}
    assert sum(info.sizes.values()) == info.bytes_on_disk


def test_a_document_that_is_not_there_is_said_with_those_alike(folder, tmp_path):
    corpus = Corpus.build(folder, tmp_path / "c")
    for wrong, right in (
        ("deep/lease.odd", "lease.odd"),
        ("a.txt", "box.odd/notes/a.txt"),
        ("leese.odd", "lease"),
    ):
        with pytest.raises(CorpusError, match=f"no document is called '{wrong}'; did you mean .*{right}"):
            corpus.document(wrong)


@pytest.mark.parametrize("bad", ["crash", "allocate", "fail"])
def test_what_goes_wrong_is_left_out_once_and_the_rest_is_as_without_it(folder, tmp_path, bad):
    without = snapshot(Corpus.build(folder, tmp_path / "without"))
    (folder / "deep" / "bad.odd").write_text(f"{bad} ")
    corpus = Corpus.build(folder, tmp_path / "c")
    assert snapshot(corpus) == without
    ((name, reason),) = corpus.info().skipped_files
    assert (name, bool(reason)) == ("deep/bad.odd", True)
    # It isn't read again until it changes.
    assert corpus.refresh().files_read == 0
    (folder / "deep" / "bad.odd").write_text("noise good words at last")
    assert corpus.refresh().files_read == 1
    assert corpus.search("at last")[0].passage.source.startswith("deep/bad.odd:0-")


@pytest.mark.parametrize("member", ["", "members b.odd="], ids=["alone", "in another file"])
def test_a_file_that_hangs_is_left_out_until_it_can_be_read(folder, tmp_path, member):
    there = tmp_path / "there"
    (folder / "bad.odd").write_text(f"{member}slow {there} Chicory comes from France.")
    os.utime(folder / "bad.odd", (1e9, 1e9))
    building.build([folder], tmp_path / "c", limits=Limits(seconds=1))
    with Corpus.open(tmp_path / "c") as corpus:
        info, why = corpus.info(), "took longer than 1 s to read; the next build tries again"
        found = info.skipped_files + [note for note in info.notes if note[0] == "bad.odd"]
        assert found == [("bad.odd", f"b.odd can't be read: {why}" if member else why)]
        assert corpus.search("chicory") == []
        there.touch()
        corpus.refresh()
        assert corpus.search("chicory")[0].passage.text == "Chicory comes from France."
        assert corpus.refresh().files_read == 0


@pytest.mark.parametrize("member", ["", "members b.odd="], ids=["alone", "in another file"])
def test_a_file_that_hangs_each_time_is_not_tried_by_each_build(folder, tmp_path, member):
    (folder / "bad.odd").write_text(f"{member}hang ")
    os.utime(folder / "bad.odd", (1e9, 1e9))
    for tries in (1, 2, 2):
        building.build([folder], tmp_path / "c", limits=Limits(seconds=1))
        with Corpus.open(tmp_path / "c") as corpus:
            [file] = [file for file in corpus.files() if file.name == "bad.odd"]
            info = corpus.info()
            assert file.tries == tries
    [(_, why)] = info.skipped_files + [note for note in info.notes if note[0] == "bad.odd"]
    when = datetime.fromtimestamp(file.tried_ns // 10**9 + 3600).isoformat(" ", "minutes")
    ending = f"took longer than 1 s to read; tried 2 times, again from {when} on or once it is written to"
    assert why == f"b.odd can't be read: {ending}" if member else ending


def test_a_named_file_that_goes_wrong_is_an_error(folder, tmp_path):
    (folder / "bad.odd").write_text("crash ")
    with pytest.raises(DataError, match=r"bad\.odd: its loader crashed \(SIGSEGV\); mend it or leave it out"):
        Corpus.build(folder / "bad.odd", tmp_path / "c")


def test_texts_alone_start_no_worker(docs, tmp_path):
    unneeded = ("subprocess", "concurrent", "fidkit.passages.load.workers")
    code = "import sys; from fidkit.passages import Corpus; Corpus.build(sys.argv[1], sys.argv[2]); "
    code += f"print([module for module in {unneeded!r} if module in sys.modules])"
    command = [sys.executable, "-c", code, str(docs), str(tmp_path / "c")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_packed_text_is_read_apart_since_it_may_be_of_any_size(folder, tmp_path):
    (folder / "bomb.txt.gz").write_bytes(gzip.compress(b"a " * 100_000_000, 1))
    (folder / "small.txt.gz").write_bytes(gzip.compress(b"Chicory comes from France."))
    building.build([folder], tmp_path / "c", limits=Limits(memory_bytes=400 << 20))
    with Corpus.open(tmp_path / "c") as corpus:
        assert corpus.info().skipped_files == [("bomb.txt.gz", "needs more than 419 MB of memory to be read")]
        assert corpus.search("chicory")[0].passage.source == "small.txt.gz:0-26"


def test_builds_in_any_order_of_results_are_the_same(folder, tmp_path):
    for number in range(12):
        (folder / f"n{number}.odd").write_text(f"noise number {number} comes from somewhere")
    assert snapshot(Corpus.build(folder, tmp_path / "a")) == snapshot(Corpus.build(folder, tmp_path / "b"))


# Generations


@pytest.fixture
def _commits_at_once(monkeypatch):
    monkeypatch.setattr(builder, "_COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(builder, "_COMMIT_SHARE", 0)


@pytest.mark.usefixtures("_commits_at_once")
def test_a_reader_sees_whole_states_while_a_long_build_commits(folder, tmp_path):
    Corpus.build([folder / "lease.odd"], tmp_path / "c").close()
    seen = []

    def look(state):
        with Corpus.open(tmp_path / "c") as reader:
            found = reader.search("rent comes hot", 20)
            seen.append((len(reader), len(found), reader.info().unread))
            assert len(list(reader)) == len(found) == len(reader)

    corpus = Corpus.build([folder / "lease.odd", folder], tmp_path / "c", look)
    assert [passages for passages, _, _ in seen] == sorted(passages for passages, _, _ in seen)
    assert len({passages for passages, _, _ in seen}) > 3
    assert {unread for _, _, unread in seen} >= {1, 2, 3}
    assert corpus.info().unread == 0
    fresh = Corpus.build([folder / "lease.odd", folder], tmp_path / "fresh")
    assert snapshot(corpus) == snapshot(fresh)
    assert check(tmp_path / "c").faults == []


@pytest.mark.usefixtures("_commits_at_once")
def test_changed_documents_stay_until_they_are_read_again(folder, tmp_path):
    for number in range(30):
        (folder / f"filler{number}.txt").write_text(f"filler number {number}")
    corpus = Corpus.build(folder, tmp_path / "c")
    (folder / "coffee.txt").write_text("Coffee came from Kaffa.")
    (folder / "tea.md").write_text("# Tea\n\nTea came from Assam.\n")
    states = []
    Corpus.build(
        folder,
        tmp_path / "c",
        lambda _: states.append((len(corpus), *map(bool, map(corpus.search, ("China", "Assam"))))),
        tidied=False,
    )
    # A reader opened it before; to it, each is as it was or as it is now, and never gone.
    assert {count for count, *_ in states} == {len(corpus)}
    assert {(china, assam) for _, china, assam in states} == {(True, False)}
    assert corpus.search("Assam")
    fresh = Corpus.build(folder, tmp_path / "fresh")
    assert snapshot(corpus)[:3] == snapshot(fresh)[:3]
    assert corpus.info().documents == fresh.info().documents


def test_after_an_interruption_a_build_goes_on_where_it_was(folder, tmp_path):
    """Ctrl-C in the middle of a file that takes its time."""
    (folder / "deep" / "slow.odd").write_text("hang ")
    code = """
import sys
from fidkit.passages.load import table
from fidkit.passages.local import build, builder
table.LOADERS[".odd"] = table.Loader("document", "odd_loaders:read")
builder._COMMIT_SECONDS = builder._COMMIT_SHARE = 0
import logging; logging.basicConfig(level="INFO", format="%(message)s")
tell = lambda state: print(state.done_files, flush=True)
build.build([sys.argv[1]], __import__("pathlib").Path(sys.argv[2]), tell)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(folder), str(tmp_path / "c")]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "5\n":
                break
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert "5 of 6 files were read and are kept; the same command goes on from there" in said
    with Corpus.open(tmp_path / "c") as corpus:
        assert (corpus.info().unread, len(corpus)) == (1, 6)
    opened, (note,) = open_sources(tmp_path / "c")
    opened.close()
    assert note.startswith("1 file is not read yet")
    with Corpus.open(tmp_path / "c") as corpus:
        assert corpus.search("deposit")
    (folder / "deep" / "slow.odd").write_text("noise it is quick now")
    again = Corpus.build(folder, tmp_path / "c")
    assert (again.report.files_read, again.info().unread) == (1, 0)
    fresh = Corpus.build(folder, tmp_path / "fresh")
    assert again.info().fingerprint == fresh.info().fingerprint


# Formats


@pytest.fixture
def former(folder, tmp_path):
    """A corpus as format 1 had it."""
    Corpus.build(folder, tmp_path / "c").close()
    return as_format_1(tmp_path / "c")


def as_format_1(where: Path) -> Path:
    with sqlite3.connect(where / "catalogue.sqlite") as sql:
        for statement in (
            "DROP TABLE documents",
            "ALTER TABLE passages RENAME TO others",
            """CREATE TABLE passages (
        row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, text TEXT NOT NULL,
        file INTEGER NOT NULL, start INTEGER, end INTEGER)""",
            "INSERT INTO passages SELECT row, id, title, text, file, start, end FROM others",
            "DROP TABLE others",
            "UPDATE meta SET value = '1' WHERE key = 'format_version'",
            "DELETE FROM meta WHERE key IN ('unread', 'next_document')",
        ):
            sql.execute(statement)
    sql.close()
    return where


def test_a_corpus_of_the_former_format_is_built_again_and_said(former, folder, tmp_path, caplog):
    fresh = Corpus.build(folder, tmp_path / "fresh")
    with caplog.at_level(logging.INFO, "fidkit"), Corpus.open(former) as corpus:
        assert snapshot(corpus) == snapshot(fresh)
        assert corpus.info().format_version == FORMAT_VERSION
    assert "has format version 1 and is built again from its sources, in version 2" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "fidkit"):
        Corpus.open(former).close()
    assert caplog.text == ""


@pytest.mark.parametrize("given", [True, False], ids=["with an encoder", "without"])
def test_vectors_of_the_former_format_are_taken_over_or_it_is_said(folder, tmp_path, caplog, given):
    encoded = list[str]()

    def counting() -> VectorEncoder:
        words = encoder()
        return replace(words, passages=lambda texts: encoded.extend(texts) or words.passages(texts))

    Corpus.build(folder, tmp_path / "c", encoder=counting).close()
    assert len(encoded) == 6
    with Corpus.open(as_format_1(tmp_path / "c"), counting if given else None) as corpus:
        held = {"encoder": "words", "dimension": 100, "passages": 6}
        assert corpus.info().vectors == (held if given else None)
        assert len(encoded) == 6
    assert ("its vectors are left out, since no encoder was given" in caplog.text) != given


def test_building_brings_the_former_format_up_to_date(former, folder):
    corpus = Corpus.build(folder, former)
    assert corpus.report.files_read == 5
    assert corpus.place("lease.odd").labels() == {"page": "1-3"}
    assert check(former).faults == []


def test_a_corpus_of_the_former_format_without_its_sources_is_refused(former, folder):
    shutil.rmtree(folder)
    with pytest.raises(
        CorpusError, match=r"format version 1, .* run `fidkit corpus build SOURCE --to .*no such file"
    ):
        Corpus.open(former)
    with sqlite3.connect(former / "catalogue.sqlite") as sql:  # as it was
        assert sql.execute("SELECT COUNT(*) FROM passages").fetchone() == (6,)
    sql.close()


# Checks


def damage(directory: Path, *statements: str) -> None:
    with sqlite3.connect(directory / "catalogue.sqlite") as sql:
        for statement in statements:
            sql.execute(statement)
    sql.close()


def test_a_corpus_as_it_was_built_has_no_faults(folder, tmp_path):
    Corpus.build(folder, tmp_path / "c").close()
    report = check(tmp_path / "c", repair=True)
    assert (report.faults, report.mended, report.passages, report.documents) == ([], [], 6, 6)


@pytest.mark.parametrize(
    ("statement", "where", "reason"),
    [
        ("UPDATE passages SET text = 'other' WHERE id = 'tea.md#1'", "tea.md", "not in their document"),
        ("UPDATE passages SET title = 'other' WHERE id = 'tea.md#1'", "tea.md", "not the 1 that were read"),
        ("DELETE FROM passages WHERE id = 'tea.md#1'", "tea.md", "its 0 passages"),
        ("UPDATE documents SET text = x'00' WHERE title = 'Tea'", "tea.md", "a document is damaged"),
        ("UPDATE documents SET map = x'00' WHERE title = 'Tea'", "tea.md", "a document is damaged"),
        ("UPDATE documents SET boxes = x'00' WHERE title = 'Tea'", "tea.md", "a document is damaged"),
        ("DELETE FROM documents WHERE title = 'Tea'", "tea.md", "not in their document"),
        ("UPDATE meta SET value = '0' WHERE key = 'fingerprint'", "the catalogue", "fingerprint"),
        ("UPDATE documents SET file = 77 WHERE title = 'Tea'", "the catalogue", "1 documents of no file"),
        (
            "INSERT INTO passages VALUES (99, 'x', '', 'y', 77, NULL, NULL, NULL)",
            "the catalogue",
            "of no file",
        ),
    ],
)
def test_damage_is_found_and_mended(folder, tmp_path, statement, where, reason):
    fresh = snapshot(Corpus.build(folder, tmp_path / "c"))
    damage(tmp_path / "c", statement)
    faults = check(tmp_path / "c").faults
    assert [(fault.where, reason in fault.reason) for fault in faults if reason in fault.reason] == [
        (where, True)
    ]
    report = check(tmp_path / "c", repair=True)
    assert "index was written anew" in report.mended[0]
    assert check(tmp_path / "c").faults == []
    with Corpus.open(tmp_path / "c") as corpus:
        assert snapshot(corpus)[1:3] == fresh[1:3]


@pytest.mark.parametrize("how", ["gone", "other rows", "another index"])
def test_an_index_is_mended_without_the_sources(folder, tmp_path, how):
    before = snapshot(Corpus.build(folder, tmp_path / "c"))
    index = tmp_path / "c" / "lexical-1"
    if how == "gone":
        shutil.rmtree(index)
    elif how == "other rows":
        other = Corpus.build(folder, tmp_path / "d")
        (folder / "tea.md").write_text("# Tea\n\nanother")
        other.refresh()
        shutil.rmtree(index)
        shutil.copytree(tmp_path / "d" / "lexical-2", index)
    else:
        (index / "meta.json").write_text("{}")
    shutil.rmtree(folder)
    assert [fault.where for fault in check(tmp_path / "c").faults] == ["the index"]
    report = check(tmp_path / "c", repair=True)
    assert report.mended == ["the index was written anew from the catalogue"]
    assert {fault.reason for fault in report.outdated} == {"No such file or directory"}
    with Corpus.open(tmp_path / "c") as corpus:
        assert snapshot(corpus) == before


def test_damage_that_cannot_be_mended_is_said(folder, tmp_path):
    Corpus.build(folder, tmp_path / "c").close()
    damage(tmp_path / "c", "UPDATE documents SET text = x'00'")
    with (
        Corpus.open(tmp_path / "c") as corpus,
        pytest.raises(CorpusError, match=r"damaged .*check .* --repair"),
    ):
        corpus.document("tea.md")
    shutil.rmtree(folder)
    with pytest.raises(
        CorpusError, match=r"its sources can't be read again \(.*\); bring them back, or delete"
    ):
        check(tmp_path / "c", repair=True)


def test_files_that_changed_since_are_said_and_are_no_damage(folder, tmp_path):
    for path in folder.rglob("*.*"):
        os.utime(path, ns=(10**18, 10**18))
    Corpus.build(folder, tmp_path / "c").close()
    (folder / "coffee.txt").unlink()
    (folder / "tea.md").write_text("# Tea\n\nmore of it")
    report = check(tmp_path / "c")
    assert report.faults == []
    assert {tuple(fault) for fault in report.outdated} == {
        ("coffee.txt", "No such file or directory"),
        ("tea.md", "written to since it was read"),
    }
    assert json.dumps(report.to_json())


def test_a_folder_of_pictures_alone_says_so(tmp_path):
    canvas = pytest.importorskip("reportlab.pdfgen.canvas")
    (tmp_path / "scans").mkdir()
    page = canvas.Canvas(str(tmp_path / "scans" / "a.pdf"))
    page.rect(50, 50, 400, 600, fill=1)
    page.save()
    with pytest.raises(CorpusError, match=r"1 left out, the first: a\.pdf, page 1 has no text; it may be a"):
        Corpus.build([tmp_path / "scans"], tmp_path / "corpus")


@pytest.mark.parametrize("name", ["cafe\u0301", "caf\u00e9"])
def test_a_document_is_known_however_its_accents_are_written(accented, name):
    assert accented.document(f"{name}.txt").text.endswith("names Ada.")
    assert accented.document(f"{name}s.txt").text == "The owner is Berg."
    assert accented.place(f"{name}.txt:4-6").start == 4
