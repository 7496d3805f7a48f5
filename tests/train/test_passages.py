"""The passages of a run: a corpus by number and by id, opened as it is or built from its sources."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from collected import Collected
from fidkit.errors import CorpusError, DataError, UsageError
from fidkit.passages import Corpus, default_location
from fidkit.passages.local.layout import writer_lock
from fidkit.train.passages import PassageList, PassageTable, open_passages
from fidkit.types import Passage
from train.toy import FACTS, IDS, table_with, write_rows

PASSAGES = [Passage(i, title, text) for i, (title, text, *_) in zip(IDS, FACTS, strict=True)]
ROWS = [{"id": p.id, "title": p.title, "text": p.text} for p in PASSAGES]


def test_numbers_are_places_in_the_corpus(tmp_path: Path) -> None:
    table = table_with(tmp_path, PASSAGES)
    assert len(table) == len(PASSAGES)
    assert [table.id(number) for number in range(len(table))] == IDS
    assert [table.number(identity) for identity in IDS] == list(range(len(IDS)))
    assert [table.number(identity) for identity in ("", "p", "p00", "p8")] == [None] * 4
    assert [p.text for p in table.fetch([5, 1])] == [PASSAGES[5].text, PASSAGES[1].text]
    brought = Passage("own", "", "brought along")
    assert [p.id for p in table.fetch([5, brought, 1])] == ["p5", "own", "p1"]


def test_a_table_is_of_any_collection(tmp_path: Path) -> None:
    table = PassageTable(Collected(["tea", "salt", "tin"], tmp_path))
    assert [table.number(identity) for identity in ("2", "0", "3")] == [2, 0, None]
    assert [passage.text for passage in table.fetch([1, 0])] == ["salt", "tea"]


def test_ids_of_one_hash_are_told_apart() -> None:
    """-1 and -2 have one hash in Python, as two texts may have by chance."""

    class Id(str):
        def __hash__(self) -> int:
            return 7

    class Alike:
        def __iter__(self):
            return iter([Passage(Id(i), "", i) for i in ("a", "b", "c")])

    table = PassageTable(Alike())  # type: ignore[arg-type]
    assert [table.number(Id(i)) for i in ("c", "a", "b", "d")] == [2, 0, 1, None]


def test_a_list_is_drawn_from_as_if_it_were_in_memory(tmp_path: Path) -> None:
    table = table_with(tmp_path, PASSAGES)
    listed = PassageList(table, range(len(table)))
    for seed in range(9):
        lazily, held = random.Random(seed), random.Random(seed)
        assert lazily.choice(listed).id == held.choice(PASSAGES).id
        drawn = [p.id for p in lazily.sample(listed, 3)]
        assert drawn == [p.id for p in held.sample(PASSAGES, 3)]
    assert [p.id for p in listed] == IDS
    assert [p.id for p in listed[2:4]] == IDS[2:4]
    assert [p.id for p in table.without({"Tea"})] == [i for i in IDS if i != "p3"]


def test_no_passages_are_an_empty_table() -> None:
    assert open_passages([]) is None
    table = PassageTable(None)
    assert (len(table), table.number("p0"), table.fetch([])) == (0, None, [])


# Opening


def test_a_built_corpus_is_opened_as_it_is(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", ROWS)
    Corpus.build(rows, tmp_path / "built").close()
    rows.unlink()  # nobody looks at its sources
    notes: list[str] = []
    opened = open_passages([tmp_path / "built"], say=notes.append)
    assert opened is not None
    assert [p.id for p in opened] == IDS
    assert notes == []
    with pytest.raises(UsageError, match="is a built corpus; expected it alone"):
        open_passages([tmp_path / "built", rows])


def test_sources_are_built_once_and_said(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", ROWS)
    notes: list[str] = []
    opened = open_passages([rows], say=notes.append)
    assert opened is not None
    place = default_location([rows])
    assert opened.path == place
    assert [p.id for p in opened] == IDS
    assert notes == [
        f"building a corpus of {rows} in {place}, once",
        f"{place} has {len(ROWS)} passages of {rows}",
    ]
    assert open_passages([rows], say=notes.append) is not None
    assert len(notes) == 2
    write_rows(rows, ROWS[:3])  # brought up to date
    again = open_passages([rows], say=notes.append)
    assert again is not None
    assert len(again) == 3


def test_a_document_that_is_no_text_ends_no_training(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "good.txt").write_text("A text of some words.")
    (folder / "bad.txt").write_bytes(b"\xff\0")
    notes: list[str] = []
    opened = open_passages([folder], say=notes.append)
    assert opened is not None
    assert [p.text for p in opened] == ["A text of some words."]
    assert "1 of 2 files were left out (bad.txt: binary, not text); `fidkit corpus info" in notes[-1]


def test_a_second_training_waits_for_the_first(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", ROWS)
    place = default_location([rows])
    place.mkdir(parents=True)
    begun, release = threading.Event(), threading.Event()

    def hold() -> None:
        with writer_lock(place):
            begun.set()
            release.wait(60)

    notes: list[str] = []

    def say(note: str) -> None:
        notes.append(note)
        if "waiting" in note:
            release.set()

    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(hold)
        assert begun.wait(60)
        opened = open_passages([rows], say=say)
        holding.result(60)
    assert opened is not None
    assert len(opened) == len(ROWS)
    assert f"another process is building {place}; waiting until it is done" in notes


def test_ids_that_come_twice_are_refused(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [ROWS[0], {**ROWS[1], "id": "p0"}])
    with pytest.raises(DataError, match="'p0' occurs in"):
        open_passages([rows])


def test_missing_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="missing: no such file or folder"):
        open_passages([tmp_path / "missing"])
