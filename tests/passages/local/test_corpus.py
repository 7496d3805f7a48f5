import errno
import json
import math
import os
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fidkit.errors import CorpusError, DataError, UsageError
from fidkit.passages import Corpus, CorpusBusyError, Passages, is_corpus
from fidkit.passages.local import build as building
from fidkit.passages.local import builder
from fidkit.passages.local import plan as planning
from fidkit.passages.local.layout import writer_lock
from fidkit.passages.local.report import BuildProgress, Changes
from fidkit.passages.opening import open_sources


def texts(corpus: Corpus) -> list[str]:
    return [passage.text for passage in corpus]


def indexes(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("lexical-*"))


def age(*paths: Path) -> None:
    """Make files old enough for their times to be trusted."""
    for path in paths:
        os.utime(path, ns=(10**18, 10**18))


@pytest.fixture
def corpus(docs, tmp_path):
    age(*docs.rglob("*.*"))
    with Corpus.build(docs, tmp_path / "c") as built:
        yield built


def test_a_folder_becomes_passages(corpus, docs):
    assert [passage.id for passage in corpus] == ["coffee.txt#1", "tea.md#1", "deep/cocoa.txt#1"]
    assert len(corpus) == 3
    for passage in corpus:
        name, span = passage.source.rsplit(":", 1)
        start, end = map(int, span.split("-"))
        assert (docs / name).read_bytes().decode()[start:end] == passage.text


def test_search_finds_the_passage_first(corpus):
    hits = corpus.search("Where does tea come from?", k=2)
    assert hits[0].passage.id == "tea.md#1"
    assert hits[0].score > hits[-1].score or len(hits) == 1
    assert corpus.search("quantum chromodynamics") == []
    assert corpus.get(["tea.md#1"]) == [hits[0].passage]


@pytest.mark.parametrize(
    "question",
    [
        'tea: "AND (',
        "tea OR NOT (NOT",
        "title:tea^2~*",
        "tea\x00tea",
        "\ud800 tea",
        "TEÁ?!",
        "tea " * 5000,
        "[* TO *] tea",
    ],
)
def test_odd_questions_are_only_words(corpus, question):
    assert corpus.search(question)[0].passage.id == "tea.md#1"


@pytest.mark.parametrize("question", ["?!", "who is it", "茶"])
def test_questions_without_a_match_find_nothing(corpus, question):
    assert corpus.search(question) == []


def test_a_question_of_common_words_alone_is_searched_for_them(tmp_path, write_rows):
    rows = write_rows(
        tmp_path / "p.jsonl", [{"id": 1, "title": "The Who", "text": "a band"}, {"text": "else"}]
    )
    assert Corpus.build(rows, tmp_path / "c").search("who?")[0].passage.id == "1"


def test_equal_passages_come_in_their_order(tmp_path, write_rows):
    rows = write_rows(tmp_path / "p.jsonl", [{"id": n, "text": f"tea number w{n}"} for n in range(12)])
    corpus = Corpus.build(rows, tmp_path / "c")
    assert [hit.passage.id for hit in corpus.search("tea", k=5)] == ["0", "1", "2", "3", "4"]


def test_wrong_use_is_said(corpus):
    for question, k, says in (
        ("", 5, "question is empty"),
        (" \n", 5, "question is empty"),
        ("tea", 0, "k is 0"),
    ):
        with pytest.raises(UsageError, match=says):
            corpus.search(question, k)
    with pytest.raises(CorpusError, match=r"no passage with id 'x' \(1 of 2"):
        corpus.get(["tea.md#1", "x"])


def test_passage_files_keep_their_ids_and_order(tmp_path, write_rows):
    write_rows(tmp_path / "in" / "b.jsonl", [{"id": n, "title": "", "text": f"text {n}"} for n in (9, 3)])
    write_rows(tmp_path / "in" / "a.jsonl.gz", [{"id": 5, "title": "Five", "text": "text five", "more": 1}])
    (tmp_path / "in" / "README.md").write_text("about the data")
    corpus = Corpus.build(tmp_path / "in", tmp_path / "c")
    assert [passage.id for passage in corpus] == ["5", "9", "3"]
    assert corpus.get([9, "5"])[0].source == "b.jsonl"
    info = corpus.info()
    assert (info.passages, info.documents, info.passage_files, info.skipped) == (3, 0, 2, 1)
    assert info.skipped_files == [("README.md", "describes the passage files beside it")]
    (tmp_path / "in" / "notes.md").write_text("a document of its own")
    assert "notes.md#1" in [passage.id for passage in Corpus.build(tmp_path / "in", tmp_path / "c")]


def test_ids_must_be_unique(tmp_path, write_rows, docs):
    one = write_rows(tmp_path / "one.jsonl", [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}])
    two = write_rows(
        tmp_path / "two.jsonl", [{"id": 3, "text": "a"}, {"id": "2", "text": "b"}, {"id": 4, "text": "c"}]
    )
    with pytest.raises(DataError, match=r"two\.jsonl: .* '2' occurs in one\.jsonl"):
        Corpus.build([one, two], tmp_path / "c")


def test_files_that_are_no_text_are_counted(docs, tmp_path):
    (docs / "half.txt").write_bytes(b"\xff\xfet")
    (docs / "data.md").write_bytes(b"\x00\x01")
    info = Corpus.build(docs, tmp_path / "c").info()
    assert info.skipped_files == [("data.md", "binary, not text"), ("half.txt", "binary, not text")]
    assert (info.passages, info.skipped, info.to_json()["skipped_files"][0]["file"]) == (3, 2, "data.md")
    assert Corpus.build(docs, tmp_path / "c").report.files_read == 0


def test_only_files_without_text_is_an_error_and_keeps_the_old_state(corpus, docs):
    for path in docs.rglob("*.*"):
        path.write_bytes(b"\xff\xfet")
    with pytest.raises(
        CorpusError, match=r"found nothing to read \(3 left out, the first: coffee\.txt, binary, not text"
    ):
        corpus.refresh()
    assert len(corpus) == len(corpus.search("comes from")) == 3


# Incremental


def test_nothing_new_reads_nothing(corpus, docs, monkeypatch):
    monkeypatch.setattr(planning, "_hash", lambda _: pytest.fail("an unchanged file was read"))
    before = corpus.info()
    assert (corpus.refresh().files_read, corpus.info().generation) == (0, before.generation)


def test_touched_files_are_hashed_but_not_indexed_again(corpus, docs):
    os.utime(docs / "tea.md")
    assert corpus.refresh().files_read == 0
    assert corpus.info().generation == 1


@pytest.mark.parametrize("is_known", [False, True], ids=["new", "found as it was"])
def test_what_is_written_within_the_tick_in_which_it_was_read_is_found(docs, tmp_path, monkeypatch, is_known):
    """Some file systems count time in steps of seconds, and a file may be noted later than that."""
    step = 500_000_000
    monkeypatch.setattr(planning, "_TRUST_AFTER_NS", step)
    tea, written = docs / "tea.md", (docs / "tea.md").read_text()
    if not is_known:
        tea.unlink()
    Corpus.build(docs, tmp_path / "c").close()
    (docs / "zz.txt").write_text("What is read while tea.md waits to be noted.")
    tea.write_text(written)
    tick = tea.stat().st_mtime_ns

    def meanwhile(progress: BuildProgress) -> None:
        if progress.passages and tea.read_text() == written:
            tea.write_text(written.replace("China", "Assam"))
            os.utime(tea, ns=(tick, tick))
            while time.time_ns() <= tick + step:
                time.sleep(0.05)

    with Corpus.build(docs, tmp_path / "c", meanwhile) as corpus:
        assert "China" in corpus.document("tea.md").text
        corpus.refresh()
        assert "Assam" in corpus.document("tea.md").text


@pytest.mark.parametrize("filler", [0, 40], ids=["index written afresh", "index patched"])
def test_added_changed_and_removed_files(docs, tmp_path, filler):
    for number in range(filler):
        (docs / f"filler{number}.txt").write_text(f"filler number {number}")
    corpus = Corpus.build(docs, tmp_path / "c")
    (docs / "maté.txt").write_text("Maté comes from Paraguay.")
    (docs / "tea.md").write_text("# Tea\n\nTea comes from Assam.\n")
    (docs / "coffee.txt").unlink()
    report = corpus.refresh()
    assert (report.files_read, report.files_removed, report.passages_read) == (2, 2, 2)
    assert report.changes == Changes(("maté.txt",), ("tea.md",), ("coffee.txt",))
    fresh = Corpus.build(docs, tmp_path / "fresh")
    assert list(corpus) == list(fresh)
    assert corpus.info().fingerprint == fresh.info().fingerprint
    for question, ids in (("Ethiopia", []), ("China", []), ("Assam", ["tea.md#1"]), ("mate", ["maté.txt#1"])):
        assert [hit.passage.id for hit in corpus.search(question)] == ids
    assert indexes(tmp_path / "c") == ["lexical-2"]


def test_ids_may_move_between_files(tmp_path, write_rows):
    one, two = tmp_path / "in" / "one.jsonl", tmp_path / "in" / "two.jsonl"
    write_rows(one, [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}])
    write_rows(two, [{"id": 3, "text": "c"}])
    corpus = Corpus.build(tmp_path / "in", tmp_path / "c")
    write_rows(one, [{"id": 3, "text": "a"}])
    write_rows(two, [{"id": 1, "text": "b"}, {"id": 2, "text": "c"}])
    corpus.refresh()
    assert [(passage.id, passage.text) for passage in corpus] == [("3", "a"), ("1", "b"), ("2", "c")]


def test_sources_may_be_added_and_dropped(docs, tmp_path, write_rows):
    rows = write_rows(tmp_path / "p.jsonl", [{"id": 1, "text": "Rooibos comes from South Africa."}])
    assert len(Corpus.build([rows, docs], tmp_path / "c")) == 4
    corpus = Corpus.build([docs], tmp_path / "c")
    assert (len(corpus), corpus.search("rooibos"), corpus.report.files_read) == (3, [], 0)


def test_a_malformed_row_leaves_the_corpus_as_it_was(tmp_path, write_rows):
    rows = write_rows(tmp_path / "p.jsonl", [{"id": 1, "text": "old words"}])
    corpus = Corpus.build(rows, tmp_path / "c")
    rows.write_text('{"id": 1, "text": "new words"}\n{"id": 2}\n')
    with pytest.raises(DataError, match="line 2"):
        corpus.refresh()
    assert texts(corpus) == ["old words"]
    assert corpus.search("old")
    assert indexes(tmp_path / "c") == ["lexical-1"]


def test_a_missing_index_is_said_and_mended(corpus, docs, tmp_path):
    (tmp_path / "c" / "lexical-1" / "meta.json").unlink()
    said = r"index .* is missing; `fidkit corpus check .*/c --repair` writes it anew"
    with Corpus.open(tmp_path / "c") as broken, pytest.raises(CorpusError, match=said):
        broken.search("tea")
    assert Corpus.build(docs, tmp_path / "c").search("tea")


def test_a_file_that_vanishes_meanwhile_is_said(corpus, docs, monkeypatch):
    (docs / "new.txt").symlink_to(docs / "tea.md")
    found = building.discover([docs])
    (docs / "new.txt").unlink()
    monkeypatch.setattr(building, "discover", lambda _: [replace(file, size=1) for file in found])
    (docs / "coffee.txt").write_text("Coffee comes from Yemen.")
    corpus.refresh()
    assert ("new.txt", "it was deleted or moved meanwhile") in corpus.info().skipped_files
    assert corpus.search("Yemen")[0].passage.id == "coffee.txt#1"
    monkeypatch.undo()
    corpus.refresh()
    assert corpus.info().skipped == 0


# Several at once


def test_a_second_writer_is_refused_at_once(docs, tmp_path):
    (tmp_path / "c").mkdir()
    with (
        writer_lock(tmp_path / "c"),
        pytest.raises(CorpusError, match="another process is building this corpus"),
    ):
        Corpus.build(docs, tmp_path / "c")
    assert len(Corpus.build(docs, tmp_path / "c")) == 3


def test_a_corpus_that_is_up_to_date_needs_no_writer(corpus, docs):
    with writer_lock(corpus.path):
        assert corpus.refresh().files_read == 0
        (docs / "new.txt").write_text("new")
        with pytest.raises(CorpusError, match="another process"):
            corpus.refresh()


def test_a_reader_sees_the_old_state_while_a_build_runs_and_the_new_one_after(corpus, docs, tmp_path):
    (docs / "tea.md").write_text("# Tea\n\nTea comes from Assam.\n")
    seen = []

    def look(_: object) -> None:
        for reader in (corpus, Corpus.open(tmp_path / "c")):
            seen.append([hit.passage.text for hit in reader.search("China")] and len(reader))

    Corpus.build(docs, tmp_path / "c", progress=look)
    assert set(seen) == {3}
    assert corpus.search("China") == []
    assert corpus.search("Assam")[0].passage.text.endswith("Assam.")


def test_an_iteration_keeps_the_state_it_began_with(corpus, docs):
    passages = iter(corpus)
    first = next(passages)
    (docs / "tea.md").write_text("# Tea\n\nTea comes from Assam.\n")
    corpus.refresh()
    assert "China" in [first, *passages][1].text
    assert "Assam" in texts(corpus)[1]


def test_searches_from_many_threads_while_it_is_rebuilt(corpus, docs):
    wrong: list[object] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            try:
                hits = corpus.search("tea comes from", k=10)
                if len(hits) != 3 or not {"version", "China."} & set(hits[0].passage.text.split()):
                    wrong.append(hits)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for version in range(8):
        (docs / "tea.md").write_text(f"# Tea\n\nTea tea comes from tea version {version}.\n")
        corpus.refresh()
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong


# What can't be opened or written


def test_no_corpus_at_all(tmp_path, docs):
    with pytest.raises(
        CorpusError, match="does not exist; expected a directory made by `fidkit corpus build"
    ):
        Corpus.open(tmp_path / "nope")
    with pytest.raises(CorpusError, match=r"is not a corpus; .* build \S+ --to NEW\.corpus`"):
        Corpus.open(docs)
    with pytest.raises(CorpusError, match=r"holds 'coffee\.txt'; choose another"):
        Corpus.build(docs, docs)
    with pytest.raises(CorpusError, match="is a built corpus, not a source"):
        Corpus.build(Corpus.build(docs, tmp_path / "c").path, tmp_path / "d")
    with pytest.raises(CorpusError, match=r"can't make a corpus here .*; choose another directory"):
        Corpus.build(docs, docs / "tea.md")


def test_a_home_that_can_not_be_made_is_named(docs, monkeypatch):
    monkeypatch.setenv("FIDKIT_HOME", str(docs / "tea.md" / "home"))
    with pytest.raises(
        CorpusError, match=f"the index of {docs}, .*; set FIDKIT_HOME to a directory that can"
    ):
        open_sources(docs)


def test_a_corpus_among_its_sources_is_passed_over(docs):
    for _ in range(2):
        assert len(Corpus.build(docs, docs / "index.corpus")) == 3
    assert is_corpus(docs / "index.corpus")


def test_a_newer_format_is_refused_by_readers_and_writers(corpus, docs, tmp_path):
    with sqlite3.connect(tmp_path / "c" / "catalogue.sqlite") as sql:
        sql.execute("UPDATE meta SET value = '99' WHERE key = 'format_version'")
    sql.close()
    for attempt in (lambda: Corpus.open(tmp_path / "c"), lambda: Corpus.build(docs, tmp_path / "c")):
        with pytest.raises(CorpusError, match="format version 99, this fidkit reads up to 2; upgrade fidkit"):
            attempt()


def test_a_damaged_catalogue_is_said(docs, tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "catalogue.sqlite").write_text("this is no database\n" * 100)
    for attempt in (lambda: Corpus.open(tmp_path / "c"), lambda: Corpus.build(docs, tmp_path / "c")):
        with pytest.raises(CorpusError, match="catalogue can't be read"):
            attempt()


def test_no_torch_is_imported():
    code = "import sys, fidkit.passages; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Folders with all kinds of files


@pytest.mark.parametrize("rows", [1, 3, 2000, 2001])
def test_a_table_of_any_length_is_read(tmp_path, rows):
    table = tmp_path / "P.TSV"
    table.write_text("id\ttext\ttitle\n" + "".join(f"{n}\ttext {n}\tT\n" for n in range(rows)))
    assert len(Corpus.build(table, tmp_path / "c")) == rows


@pytest.mark.parametrize("before", [0, 2500], ids=["at once", "after rows were stored"])
def test_a_file_that_is_not_what_it_says_is_left_out_of_a_folder(docs, tmp_path, write_rows, before):
    good = [{"id": f"x{n}", "text": f"zebra {n}"} for n in range(before + 1)]
    bad = write_rows(tmp_path / "in" / "a.jsonl", [*good, {"id": "y", "text": ""}])
    write_rows(tmp_path / "in" / "b.jsonl", [{"id": "z", "text": "tea"}])
    corpus = Corpus.build(tmp_path / "in", tmp_path / "c")
    assert (texts(corpus), corpus.search("zebra"), corpus.search("tea")[0].passage.id) == (["tea"], [], "z")
    reason = f"line {before + 2}: expected a passage with a non-empty string as text, got ''"
    assert corpus.info().skipped_files == [("a.jsonl", reason)]
    assert (
        corpus.info()
        .left_out()
        .startswith(f"1 of 2 files were left out (a.jsonl: {reason}); `fidkit corpus info")
    )
    assert corpus.report.changes == Changes(added=("b.jsonl",), left_out=("a.jsonl",))
    assert Corpus.build(tmp_path / "in", tmp_path / "c").report.changes == Changes()
    with pytest.raises(DataError, match=rf"a\.jsonl, line {before + 2}: expected"):
        Corpus.build([tmp_path / "in", bad], tmp_path / "c")
    assert texts(corpus) == ["tea"]


def test_ids_of_other_passages_leave_a_file_of_a_folder_out(tmp_path, write_rows):
    folder, place = tmp_path / "in", tmp_path / "c"
    first = write_rows(folder / "a.jsonl", [{"id": 1, "text": "tea"}, {"id": 2, "text": "mate"}])
    many = [{"id": f"x{n}", "text": f"zebra {n}"} for n in range(2500)]
    write_rows(folder / "b.jsonl", [*many, {"id": 2, "text": "coffee"}])
    twice = write_rows(folder / "c.jsonl", [{"id": 7, "text": "salt"}, {"id": 7, "text": "tin"}])
    corpus = Corpus.build(folder, place)
    assert (texts(corpus), corpus.search("zebra")) == (["tea", "mate"], [])
    reasons = [
        f"expected passage ids to be unique in a corpus, but {key!r} occurs in {name} already"
        for key, name in (("2", "a.jsonl"), ("7", "c.jsonl"))
    ]
    assert corpus.info().skipped_files == list(zip(["b.jsonl", "c.jsonl"], reasons, strict=True))
    assert corpus.info().left_out().startswith("2 of 3 files were left out")
    assert Corpus.build(folder, place).report.files_read == 0
    with pytest.raises(DataError, match=r"c\.jsonl: .* '7' occurs in c\.jsonl already; rename it"):
        Corpus.build([folder, twice], place)
    # Once the ids are free, nothing is wrong with the file.
    first.unlink()
    assert texts(Corpus.build(folder, place))[-1] == "coffee"
    fresh = Corpus.build(folder, tmp_path / "fresh")
    assert Corpus.open(place).info().fingerprint == fresh.info().fingerprint


def test_a_named_document_that_is_no_text_is_an_error(tmp_path):
    (tmp_path / "x.md").write_bytes(b"\xff\0")
    with pytest.raises(DataError, match=r"x\.md: binary, not text; save it as text in UTF-8"):
        Corpus.build(tmp_path / "x.md", tmp_path / "c")


def test_names_and_places_of_any_bytes(docs, tmp_path):
    (docs / os.fsdecode(b"caf\xe9.md")).write_text("# Menu\n\ntea and rooibos")
    (docs / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"")
    where = tmp_path / os.fsdecode(b"c\xe9")
    corpus = Corpus.build(docs, where)
    assert corpus.search("rooibos")[0].passage.id == r"caf\xe9.md#1"
    assert corpus.info().skipped_files[0][0] == r"caf\xe9.jpg"
    assert json.dumps(corpus.info().to_json(), ensure_ascii=False).encode()
    assert corpus.refresh().files_read == 0


def test_without_a_locale_the_corpus_is_the_same(docs, tmp_path):
    (docs / "maté.txt").write_text("Maté comes from Paraguay.", encoding="utf-8")
    age(*docs.rglob("*.*"))
    build = "Corpus.build(sys.argv[1], sys.argv[2]).report.files_read"
    code = f"import sys; from fidkit.passages import Corpus; print({build})"
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for environment, read in ((plain, "4"), (dict(os.environ), "0"), (plain, "0")):
        command = [sys.executable, "-c", code, str(docs), str(tmp_path / "thé")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == read
    with Corpus.open(tmp_path / "thé") as corpus:
        assert (corpus.search("mate")[0].passage.id, corpus.info().generation) == ("maté.txt#1", 1)


# Places of a search


def test_equal_passages_fill_one_place_and_all_can_be_fetched(tmp_path, write_rows):
    copies = [{"id": f"c{n}", "text": "the licence of tea"} for n in range(300)]
    others = [{"id": f"o{n}", "text": f"tea is mentioned in these longer words {n}"} for n in range(5)]
    corpus = Corpus.build(write_rows(tmp_path / "p.jsonl", [*copies, *others]), tmp_path / "c")
    hits = corpus.search("licence of tea", k=4)
    assert [hit.passage.id for hit in hits][1:] == ["o0", "o1", "o2"]
    assert hits[0].passage.text == "the licence of tea"
    assert len(corpus.search("tea", k=40)) == 6
    assert corpus.get(["c299"])[0].text == "the licence of tea"


@pytest.mark.parametrize("k", [2**31, 2**63, 2**200])
def test_any_number_of_hits_may_be_asked_for(corpus, k):
    assert len(corpus.search("comes from", k)) == 3


def test_a_time_far_in_the_future_is_stored(docs, tmp_path):
    try:
        os.utime(docs / "tea.md", ns=(2**63 + 10**18, 2**63 + 10**18))
    except OverflowError:
        pytest.skip("the file system has no such times")
    assert len(Corpus.build(docs, tmp_path / "c")) == 3


def test_k_is_a_whole_number(corpus):
    with pytest.raises(UsageError, match=r"k is 2\.5, expected a whole number"):
        corpus.search("tea", 2.5)


def test_a_build_may_wait_for_another(docs, tmp_path):
    (tmp_path / "c").mkdir()
    with writer_lock(tmp_path / "c"):
        with pytest.raises(CorpusBusyError):
            Corpus.build(docs, tmp_path / "c", wait=0.05)
        release = threading.Event()

    def hold() -> None:
        with writer_lock(tmp_path / "c"):
            holds.set()
            release.wait(60)

    holds = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    assert holds.wait(60)
    corpus = Corpus.build(docs, tmp_path / "c", wait=math.inf, waiting=release.set)
    holder.join()
    assert (len(corpus), release.is_set()) == (3, True)


def test_a_corpus_is_passages(corpus, tmp_path):
    passages: Passages = corpus
    info = corpus.info()
    assert (passages.fingerprint, passages.generation) == (info.fingerprint, info.generation)
    assert passages.derived == tmp_path / "c"


def test_a_folder_that_cannot_be_looked_into_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As permissions do it, which don't bind everybody who runs this."""
    closed = tmp_path / "in" / "closed"
    closed.mkdir(parents=True)
    (tmp_path / "in" / "tea.md").write_text("Tea comes from China.")
    stat, scandir = os.stat, os.scandir

    def refusing(real):
        def ask(path=".", *more, **named):
            inside = isinstance(path, str | os.PathLike) and Path(path).is_relative_to(closed)
            if inside and not (real is stat and Path(path) == closed):
                raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
            return real(path, *more, **named)

        return ask

    monkeypatch.setattr(os, "stat", refusing(stat))
    monkeypatch.setattr(os, "scandir", refusing(scandir))
    with Corpus.build(tmp_path / "in", tmp_path / "c") as corpus:
        assert [passage.id for passage in corpus] == ["tea.md#1"]
        assert corpus.info().skipped_files == [("closed/", "Permission denied")]


def test_rows_of_a_file_that_was_taken_back_are_counted_against_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an index would fill up with rows of nobody, and never be made anew."""
    monkeypatch.setattr(builder, "_BATCH", 1)
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "good.txt").write_text("The harbour lamp is red.")
    rows = [{"id": str(n), "title": "", "text": f"row {n}"} for n in range(3)]
    lines = [*map(json.dumps, rows), json.dumps({"what": "no passage"})]
    (folder / "log.jsonl").write_text("\n".join(lines))
    Corpus.build(folder, tmp_path / "corpus", tidied=False).close()
    with sqlite3.connect(tmp_path / "corpus" / "catalogue.sqlite") as sql:
        meta = dict(sql.execute("SELECT key, value FROM meta"))
    sql.close()
    assert meta["removed_since_fresh"] == "3"


@pytest.mark.parametrize("question", ["r\u00e9sum\u00e9", "re\u0301sume\u0301", "resume"])
def test_words_are_found_however_their_accents_are_written(accented, question):
    assert [hit.passage.text for hit in accented.search(question, 9)] == ["The re\u0301sume\u0301 names Ada."]
