"""Databases in a directory where this user can't write: there SQLite takes no locks, and sees no changes."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from disks import unwritable
from fidkit import Filter
from fidkit.database import Unlocked
from fidkit.errors import FidkitError, MemoryStoreError
from fidkit.memory.manifest import Manifest, MemoryMeta
from fidkit.passages import Corpus
from fidkit.passages.local.build import build
from fidkit.passages.local.catalogue import Catalogue
from fidkit.passages.local.schema import ChangedError

META = MemoryMeta("f" * 64, "toy", "bf16", "", "float32", 24, 2)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:03}.txt").write_text(f"Harbour {number} is {number} m deep. " * 30)
    return folder


@pytest.fixture
def reader(docs: Path, tmp_path: Path) -> Iterator[Corpus]:
    """A corpus of somebody else, open."""
    build([docs], tmp_path / "c")  # who opens it to read leaves a log behind, which is shared
    with unwritable(tmp_path / "c"):
        corpus = Corpus.open(tmp_path / "c")
        assert isinstance(corpus._catalogue._sql, Unlocked)
    yield corpus
    corpus.close()


def found(corpus: Corpus, question: str) -> list[str]:
    with unwritable(corpus.path):
        return [hit.passage.id for hit in corpus.search(question, 2, where=Filter(kind="txt"))]


def test_builds_of_others_are_seen(docs: Path, reader: Corpus) -> None:
    for name in ("maté", "rooibos", "sake"):
        assert found(reader, name) == []
        (docs / f"{name}.txt").write_text(f"What is {name}?")
        build([docs], reader.path)
        before = reader._catalogue._sql
        assert found(reader, name) == [f"{name}.txt#1"]
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            before.execute("SELECT 1")
        (docs / f"{name}.txt").unlink()
        build([docs], reader.path)
        assert found(reader, name) == []
        assert isinstance(reader._catalogue._sql, Unlocked)


def test_with_the_log_of_a_writer_there_are_locks_again(docs: Path, reader: Corpus) -> None:
    writer = Catalogue.for_writing(reader.path)
    try:
        writer._sql.execute("UPDATE meta SET value = '7' WHERE key = 'unread'")
        writer._sql.execute("COMMIT")  # to the log
        with unwritable(reader.path):
            assert reader.unread == 7
            assert type(reader._catalogue._sql) is sqlite3.Connection
    finally:
        writer.close()
    (docs / "maté.txt").write_text("What is maté?")
    build([docs], reader.path)
    assert found(reader, "maté") == ["maté.txt#1"]


def test_whoever_looked_at_it_before_left_locks(docs: Path, tmp_path: Path) -> None:
    Corpus.build(docs, tmp_path / "c").close()
    with unwritable(tmp_path / "c"):
        reader = Corpus.open(tmp_path / "c")
        assert type(reader._catalogue._sql) is sqlite3.Connection
    (docs / "maté.txt").write_text("What is maté?")
    build([docs], reader.path)
    assert found(reader, "maté") == ["maté.txt#1"]
    reader.close()


def test_what_would_be_of_two_states_is_not_given(docs: Path, reader: Corpus) -> None:
    with unwritable(reader.path):
        passages = iter(reader)
        next(passages)
    (docs / "000.txt").write_text("Filled up.")
    build([docs], reader.path)
    with pytest.raises(ChangedError, match=r"c: a build wrote to it while it was read, .*; ask again$"):
        list(passages)
    catalogue = reader._catalogue
    for fault in ("", "database disk image is malformed"):  # pages of two states may look like damage
        with unwritable(reader.path):
            catalogue.files()
        with pytest.raises(ChangedError):
            build_and_fail(catalogue, docs, fault)


def build_and_fail(catalogue: Catalogue, docs: Path, fault: str) -> None:
    with catalogue.one_state():
        (docs / "000.txt").write_text(f"Filled up, {fault}.")
        build([docs], catalogue.directory)
        if fault:
            raise sqlite3.DatabaseError(fault)
        catalogue.count("documents")


@pytest.mark.parametrize("time", [1, 2])
def test_a_search_that_a_build_comes_into_is_done_again(docs, reader, monkeypatch, time) -> None:
    """What is current is looked up when a search begins, and when the passages that it found are read."""
    names, seen = reader._catalogue.names, []

    def looked_up() -> tuple[str, ...]:
        seen.append(names())
        if len(seen) == time:
            (docs / "000.txt").write_text("Harbour 0 was filled up.")
            build([docs], reader.path)
        return seen[-1]

    monkeypatch.setattr(reader._catalogue, "names", looked_up)
    assert [hit.passage.text for hit in reader.search("was filled up", 1)] == ["Harbour 0 was filled up."]


def test_a_file_that_is_gone_is_read_on(reader: Corpus) -> None:
    shutil.rmtree(reader.path)
    assert len(reader) == len(list(reader._catalogue.passages())) > 50


def test_a_corpus_in_its_place_is_read_though_it_is_as_old(
    docs: Path, reader: Corpus, tmp_path: Path
) -> None:
    (docs / "maté.txt").write_text("What is maté?")
    build([docs], tmp_path / "other")
    time = (reader.path / "catalogue.sqlite").stat().st_mtime_ns
    os.utime(tmp_path / "other" / "catalogue.sqlite", ns=(time, time))
    reader.path.rename(tmp_path / "before")
    (tmp_path / "other").rename(reader.path)
    assert found(reader, "maté") == ["maté.txt#1"]


def test_a_log_that_was_left_behind_is_said(docs: Path, reader: Corpus, tmp_path: Path) -> None:
    """The file alone isn't whole, and the log can't be read without a place to write."""
    writer, left = Catalogue.for_writing(reader.path), tmp_path / "left"
    try:
        writer._sql.execute("UPDATE meta SET value = '7' WHERE key = 'unread'")
        writer._sql.execute("COMMIT")
        shutil.copytree(reader.path, left, ignore=shutil.ignore_patterns("*-shm"))
    finally:
        writer.close()
    with (
        unwritable(left),
        pytest.raises(FidkitError, match=r"its log was left behind .*`fidkit corpus check`"),
    ):
        Corpus.open(left)
    Corpus.open(left).close()
    with unwritable(left), Corpus.open(left) as corpus:
        assert corpus.unread == 7
    (reader.path / "catalogue.sqlite-wal").touch()  # of somebody who is about to write
    with unwritable(reader.path), Corpus.open(reader.path) as corpus:
        assert corpus.unread == reader.unread == 7


def test_a_memory_of_others_is_seen_too(tmp_path: Path) -> None:
    writer = Manifest.for_writing(tmp_path)
    writer.begin(META)
    writer.close()
    with unwritable(tmp_path):
        reader = Manifest.for_reading(tmp_path)
        assert reader.meta().generation == 1
    for generation in (2, 3):
        writer = Manifest.for_writing(tmp_path)
        writer.add(None)
        writer.close()
        with unwritable(tmp_path):
            assert reader.meta().generation == generation
    for fault in ("", "database disk image is malformed"):
        with unwritable(tmp_path):
            reader.meta()
        with pytest.raises(MemoryStoreError, match="wrote to its manifest while it was read"):
            add_and_fail(reader, fault)
    reader.close()


def add_and_fail(reader: Manifest, fault: str) -> None:
    with reader._transaction("BEGIN"), closing(Manifest.for_writing(reader.directory)) as writer:
        writer.add(None)
        if fault:
            raise sqlite3.DatabaseError(fault)
