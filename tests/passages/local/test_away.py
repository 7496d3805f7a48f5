"""A source that is away costs nothing, is said, and is followed again once it is back."""

import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from disks import mounted, unanswered, unmount
from fidkit.errors import CorpusError
from fidkit.passages import Corpus
from fidkit.passages.load.cutting import Cutting
from fidkit.passages.load.sources import SourceFile
from fidkit.passages.load.workers import Job, Workers
from fidkit.passages.local import away
from fidkit.passages.local.away import AwayError, mounts_below, require_sources

TEXTS = {"milk.txt": "Milk comes from cows.", "honey.txt": "Honey comes from bees."}


def fill(folder: Path) -> None:
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
        os.utime(folder / name, (1e9, 1e9))


def test_a_share_in_a_source_that_is_not_mounted(docs, tmp_path):
    share = docs / "a share"
    with mounted(share):
        fill(share)
        with Corpus.build(docs, tmp_path / "c") as corpus:
            assert len(corpus) == 5
    for _ in range(2):  # a fault that is met again is one again
        with pytest.raises(AwayError, match="a share: isn't mounted any more, and 2 files of it are in"):
            Corpus.build(docs, tmp_path / "c")
    with Corpus.open(tmp_path / "c") as corpus:
        assert len(corpus) == len(corpus.search("comes from")) == 5
    with mounted(share):
        fill(share)
        (share / "milk.txt").unlink()  # somebody says so
        with Corpus.build(docs, tmp_path / "c") as corpus:
            assert len(corpus) == 4
    (share / "READ ME.txt").write_text("Nothing is mounted here.")
    with pytest.raises(AwayError, match="isn't mounted any more, and 1 file of it is in"):
        Corpus.build(docs, tmp_path / "c")
    (share / "READ ME.txt").unlink()
    share.rmdir()
    with Corpus.build(docs, tmp_path / "c") as corpus:
        assert len(corpus) == 3


def test_a_corpus_that_does_not_know_yet_what_is_mounted_learns_it(docs, tmp_path):
    share = docs / "share"
    for path in docs.rglob("*.*"):
        os.utime(path, (1e9, 1e9))  # so that nothing has to be looked at again
    with mounted(share):
        fill(share)
        Corpus.build(docs, tmp_path / "c").close()
        with sqlite3.connect(tmp_path / "c" / "catalogue.sqlite") as database:
            database.execute("DELETE FROM meta WHERE key = 'mounts'")
        database.close()
        assert Corpus.build(docs, tmp_path / "c").report.files_read == 0
    with pytest.raises(AwayError, match="isn't mounted any more"):
        Corpus.build(docs, tmp_path / "c")


def test_files_that_were_moved_off_a_share_are_no_longer_of_it(docs, tmp_path):
    share = docs / "share"
    with mounted(share):
        fill(share)
        Corpus.build(docs, tmp_path / "c").close()
    fill(share)
    (share / "milk.txt").write_text("Milk comes from oats.")
    with Corpus.build(docs, tmp_path / "c") as corpus:
        assert len(corpus) == 5
    (share / "milk.txt").unlink()
    (share / "honey.txt").unlink()
    with Corpus.build(docs, tmp_path / "c") as corpus:
        assert len(corpus) == 3


def test_a_source_that_is_a_share_and_not_mounted(tmp_path):
    share = tmp_path / "share"
    with mounted(share):
        fill(share)
        Corpus.build(share, tmp_path / "c").close()
    with pytest.raises(CorpusError, match="found nothing to read"):
        Corpus.build(share, tmp_path / "c")
    (share / "note.txt").write_text("What stands here is on the disk itself.")
    with pytest.raises(AwayError, match="isn't mounted any more"):
        Corpus.build(share, tmp_path / "c")
    with Corpus.open(tmp_path / "c") as corpus:
        assert len(corpus) == 2


def test_a_share_that_does_not_answer(docs, tmp_path):
    corpus = Corpus.build(docs, tmp_path / "c")
    with (
        unanswered(docs / "deep"),
        pytest.raises(AwayError, match=r"deep: can't be looked .*, and 1 file of"),
    ):
        Corpus.build(docs, tmp_path / "c")
    with unanswered(docs), pytest.raises(CorpusError, match=r"docs: can't be looked .*not connected\); mend"):
        Corpus.build(docs, tmp_path / "c")
    with (
        unanswered(docs / "tea.md"),
        pytest.raises(AwayError, match=r"tea.md: can't be .*, and 1 file of"),
    ):
        Corpus.build(docs, tmp_path / "c")
    (docs / "new").mkdir()
    with unanswered(docs / "new"):  # nothing of it is lost
        assert Corpus.build(docs, tmp_path / "c").info().skipped == 1
    assert len(corpus) == len(corpus.search("comes from")) == 3


def test_a_folder_that_the_system_does_not_tell_from_a_file(docs, tmp_path):
    with Corpus.build(docs, tmp_path / "c") as corpus:
        records = corpus._catalogue.files()
    stale = SourceFile("deep", docs / "deep", "skipped", note="Stale file handle")
    there = [SourceFile(name, docs / name, "document") for name in ("tea.md", "coffee.txt")]
    with pytest.raises(AwayError, match=r"deep: can't be looked into \(Stale file handle\), and 1 file"):
        require_sources([str(docs)], [*there, stale], records)
    require_sources([str(docs)], [*there, replace(stale, note="not a regular file")], records)


def test_a_share_that_vanishes_while_its_files_are_read(docs, tmp_path):
    share = docs / "share"
    with mounted(share):
        fill(share)
        Corpus.build(docs, tmp_path / "c").close()
        for path in (docs / "tea.md", share / "honey.txt", share / "milk.txt"):
            path.write_text("It comes from somewhere else.")
        with pytest.raises(CorpusError, match=r"honey.txt: can't be read .* before is whole"):
            Corpus.build(docs, tmp_path / "c", lambda state: unmount(share))
    with Corpus.open(tmp_path / "c") as corpus:
        assert len(corpus) == len(corpus.search("comes from")) == 5


def test_a_file_of_which_the_disk_gives_nothing_is_no_file_that_cannot_be_read():
    workers = Workers(count=1)
    try:
        memory = Path("/proc/self/mem")  # at whose beginning there is nothing
        if not memory.exists():
            pytest.skip("no such file here")
        job = Job(memory, "x.html", "fidkit.passages.load.text:read_text", 0, Cutting())
        [found] = workers.read([job])
    finally:
        workers.close()
    assert (found.not_opened, found.reason) == ("Input/output error", "")


def test_file_systems_in_the_sources_are_found(tmp_path):
    with mounted(tmp_path / "a b\n") as inside:
        assert mounts_below([str(tmp_path)]) == mounts_below([str(inside)]) == [str(inside)]
        assert mounts_below([str(tmp_path / "a")]) == mounts_below([str(inside / "deeper")]) == []


def test_where_the_system_has_no_list_only_sources_themselves_are_known(tmp_path, monkeypatch):
    monkeypatch.setattr(away, "_MOUNTED", tmp_path / "none")
    with mounted(tmp_path / "share") as inside:
        assert mounts_below([str(tmp_path), str(inside)]) == [str(inside)]


def test_what_a_catalogue_says_of_mounts_is_not_trusted():
    for said in ("{", "3", "[3, null]", "[" * 100_000):
        assert away.mounts_of({"mounts": said}) == []
    assert away.mounts_of({}) == []
    assert away.mounts_of({"mounts": away.stored_mounts(["/caf\udce9"])}) == ["/caf\udce9"]
