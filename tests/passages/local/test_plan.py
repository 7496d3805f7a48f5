"""Which files a build reads, hashes or leaves as they are."""

import os
import shutil
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from fidkit.passages import Corpus
from fidkit.passages.load.record import NEXT_BUILD
from fidkit.passages.load.sources import SourceFile
from fidkit.passages.load.workers import Read
from fidkit.passages.local import plan as planning
from fidkit.passages.local.plan import Plan, make_plan, next_try_ns, tries_after
from fidkit.passages.local.reading import Reading
from fidkit.passages.local.records import FileRecord
from fidkit.passages.local.schema import ADDED_TO_FILES

HOUR_NS = 3600 * 10**9
LATER_NS = 10**18
HASHED = "the hash of any file"


def found(name: str, inode: int = 1, changed_ns: int = 1, **others) -> SourceFile:
    return SourceFile(
        name,
        Path(name),
        "document",
        9,
        **({"mtime_ns": 7, "inode": inode, "changed_ns": changed_ns} | others),
    )


def record(file: SourceFile, number: int = 1, sha256: str = HASHED, note: str = "", **others) -> FileRecord:
    held = FileRecord(
        number, file.name, file.name, file.kind, note, file.size, file.mtime_ns, sha256, number - 1,
        1, 1, b"", file.inode, file.changed_ns,
    )  # fmt: skip
    return held._replace(**others)


@pytest.fixture
def hashed(monkeypatch):
    """Names of the files that were hashed, which never shows a change."""
    names = list[str]()
    monkeypatch.setattr(planning, "_hash", lambda file: names.append(file.name) or HASHED)
    return names


@pytest.fixture
def twins(tmp_path):
    """A folder of two files of one size and time."""
    folder = tmp_path / "twins"
    folder.mkdir()
    for name, text in (("a", "The rent is 100."), ("b", "The rent is 900.")):
        (folder / f"{name}.txt").write_text(text)
        os.utime(folder / f"{name}.txt", (1e9, 1e9))
    return folder


def said(corpus: Corpus) -> dict[str, str]:
    return {passage.id: passage.text for passage in corpus}


def swap(folder: Path) -> None:
    (folder / "a.txt").rename(folder / "c")
    (folder / "b.txt").rename(folder / "a.txt")
    (folder / "c").rename(folder / "b.txt")


def test_names_that_were_swapped_are_noticed(twins, place):
    Corpus.build(twins, place).close()
    swap(twins)
    with Corpus.build(twins, place) as corpus:
        assert said(corpus) == {"a.txt#1": "The rent is 900.", "b.txt#1": "The rent is 100."}
        assert corpus.report.files_read == 2
    with Corpus.build(twins, place) as corpus:
        assert corpus.report.files_read == 0


def test_a_file_that_took_the_name_of_its_twin_is_noticed(twins, tmp_path):
    Corpus.build(twins, tmp_path / "c").close()
    (twins / "b.txt").replace(twins / "a.txt")
    with Corpus.build(twins, tmp_path / "c") as corpus:
        assert said(corpus) == {"a.txt#1": "The rent is 900."}


def test_a_catalogue_that_knows_nothing_of_file_systems_learns_it(twins, tmp_path, hashed):
    Corpus.build(twins, tmp_path / "c").close()
    with closing(sqlite3.connect(tmp_path / "c" / "catalogue.sqlite")) as sql:
        for column in ADDED_TO_FILES:
            sql.execute(f"ALTER TABLE files DROP COLUMN {column}")
    with Corpus.open(tmp_path / "c") as before:
        assert {(file.inode, file.tries) for file in before.files()} == {(0, 0)}
        Corpus.build(twins, tmp_path / "c").close()
        assert all(file.inode for file in before.files())
        generation = before.generation
    assert hashed == []
    with Corpus.build(twins, tmp_path / "c") as corpus:
        assert (corpus.generation, corpus.report.files_read) == (generation, 0)


def test_a_copy_with_the_times_of_its_original_is_hashed_once_and_not_read(twins, place, monkeypatch):
    Corpus.build(twins, place).close()
    names, real = list[str](), planning._hash
    monkeypatch.setattr(planning, "_hash", lambda file: names.append(file.name) or real(file))
    shutil.copytree(twins, twins.with_name("copy"))
    shutil.rmtree(twins)
    twins.with_name("copy").rename(twins)
    for expected in (["a.txt", "b.txt"], []):
        names.clear()
        with Corpus.build(twins, place) as corpus:
            assert (corpus.report.files_read, names) == (0, expected)


@pytest.mark.parametrize(
    ("changes", "looked_at"),
    [
        ({"inode": 2, "changed_ns": 2}, True),
        ({"inode": 2}, False),  # a share that was mounted again
        ({"changed_ns": 2}, False),  # rights, links, backups
        ({"inode": 2, "changed_ns": 2, "mtime_ns": 8}, False),  # a time that no other file has
        ({"inode": 0, "changed_ns": 0}, False),  # nothing is known
    ],
)
def test_number_and_time_of_change_count_together_where_files_share_a_time(hashed, changes, looked_at):
    mine = {"mtime_ns": changes.pop("mtime_ns", 7)}
    before, other = found("a", **mine), found("b", 5)
    plan = make_plan([found("a", **mine, **changes), other], [record(before), record(other, 2)])
    assert (hashed, len(plan.moved)) == ((["a"], 1) if looked_at else ([], 0))
    assert len(plan.keep) == 2


def test_a_twin_that_is_new_or_gone_counts(hashed):
    before, after = found("a"), found("a", 2, 2)
    for names, records in (
        ([after, found("b")], [record(before)]),
        ([after], [record(before), record(found("b"), 2)]),
    ):
        hashed.clear()
        make_plan(names, records)
        assert hashed == ["a"]


def failed(tries: int, tried_ns: int, **others) -> FileRecord:
    return record(found("a"), sha256="", tries=tries, tried_ns=tried_ns, **others)


def read_again(held: FileRecord, now_ns: int, monkeypatch, **of_file) -> bool:
    monkeypatch.setattr(planning, "Plan", partial(Plan, since_ns=now_ns))
    return bool(make_plan([found("a", **of_file)], [held]).read)


@pytest.mark.parametrize("kind", ["document", "skipped"], ids=["in part", "whole"])
@pytest.mark.parametrize(("tries", "hours"), [(1, 0), (2, 1), (3, 24), (4, 168), (99, 168)])
def test_what_failed_is_tried_more_and_more_seldom_and_never_given_up(monkeypatch, tries, hours, kind):
    held = failed(tries, LATER_NS, kind=kind)
    due = LATER_NS + hours * HOUR_NS
    assert read_again(held, due, monkeypatch)
    assert read_again(held, due - 1, monkeypatch) == (hours == 0)
    assert next_try_ns(held) == (due if hours else 0)


def test_what_failed_is_tried_once_it_changes_or_is_named_or_the_clock_is_set_back(monkeypatch):
    held = failed(4, LATER_NS)
    assert not read_again(held, LATER_NS, monkeypatch)
    assert read_again(held, LATER_NS, monkeypatch, mtime_ns=8)
    assert read_again(held, LATER_NS, monkeypatch, named=True)
    assert read_again(held, LATER_NS - 1, monkeypatch)


def test_failures_are_counted_until_a_file_is_written_to():
    assert tries_after(found("a"), None) == 1
    assert tries_after(found("a"), failed(2, 1)) == 3
    assert tries_after(found("a"), failed(1, 1, mtime_ns=0)) == 2  # it was too new for its time to be noted
    assert tries_after(found("a", mtime_ns=8), failed(2, 1)) == 1
    assert tries_after(found("a"), failed(2, 1, size=8)) == 1


def test_failures_are_counted_by_every_engine(docs, place, monkeypatch):
    """A file that fails is read by two builds, and left alone by the third."""
    (docs / "slow.csv").write_text("Gate,Opens\nWest,07:45\n")
    os.utime(docs / "slow.csv", (1e9, 1e9))
    reads = list[str]()

    def failing(_: Reading, files: Sequence[SourceFile]) -> Generator[Read]:
        for file in files:
            reads.append(file.name)
            yield Read(reason=f"took long; {NEXT_BUILD}")

    monkeypatch.setattr(Reading, "_read_apart", failing)
    for tries in (1, 2, 2):
        with Corpus.build(docs, place) as corpus:
            [held] = [file for file in corpus.files() if file.name == "slow.csv"]
            assert (held.tries, len(reads)) == (tries, tries)
            [(_, note)] = corpus.info().skipped_files
    assert note.startswith("took long; tried 2 times, again from ")
