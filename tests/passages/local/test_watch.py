"""Sources are followed: what happens there is in the corpus soon after, and nothing else is."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("watchfiles")

from disks import mounted, unmount
from fidkit.errors import FidkitError, UsageError
from fidkit.passages import Corpus
from fidkit.passages.load.sources import discover
from fidkit.passages.local import following, watch
from fidkit.passages.local.away import AwayError
from fidkit.passages.local.catalogue import Catalogue
from fidkit.passages.local.following import Following
from fidkit.passages.local.report import BuildReport, Changes

SOON = 20.0  # far more than it takes: a busy machine is no fault


class Follower:
    """Follows in a thread; what was said is in `news`."""

    def __init__(self, *sources: Path, to: Path) -> None:
        self.news: list[BuildReport | FidkitError] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(sources, to))
        self._thread.start()

    def _run(self, sources: tuple[Path, ...], to: Path) -> None:
        for one in watch.follow(sources, to, stop=self._stop):
            self.news.append(one)

    def read(self) -> int:
        return sum(one.files_read for one in self.news if isinstance(one, BuildReport))

    def end(self) -> None:
        self._stop.set()
        self._thread.join(SOON)
        assert not self._thread.is_alive()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Everything but what the system tells goes faster."""
    monkeypatch.setattr(watch, "_TICK_SECONDS", 0.05)
    monkeypatch.setattr(watch, "_GATHERED_MS", 20)
    monkeypatch.setattr(watch, "_FIRST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(watch, "SETTLED_SECONDS", 0.3)
    monkeypatch.setattr(Following.__init__, "__defaults__", (0.3, following._LONGEST_SECONDS))


@pytest.fixture
def corpus(docs, tmp_path) -> Iterator[Corpus]:
    with Corpus.build(docs, tmp_path / "c") as built:
        yield built


@pytest.fixture
def follower(docs, corpus) -> Iterator[Follower]:
    old = time.time() - 60
    for path in docs.rglob("*.*"):
        os.utime(path, (old, old))
    found = Follower(docs, to=corpus.path)
    yield found
    found.end()


def ids(corpus: Corpus) -> set[str]:
    return {passage.id for passage in corpus}


def removed(corpus: Corpus) -> int:
    """Passages that are gone, and that scores still count."""
    catalogue = Catalogue.for_reading(corpus.path)
    try:
        return int(catalogue.meta()["removed_since_fresh"])
    finally:
        catalogue.close()


def soon(holds) -> None:
    until = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < until, "it didn't come"
        time.sleep(0.02)


def test_what_happens_in_a_folder_is_in_the_corpus_soon(docs, corpus, follower):
    (docs / "new.txt").write_text("Maté comes from Paraguay.")
    (docs / "tea.md").rename(docs / "chai.md")
    (docs / "deep").rename(docs / "deeper")
    (docs / "coffee.txt").unlink()
    expected = {"new.txt#1", "chai.md#1", "chai.md#2", "deeper/cocoa.txt#1"}
    soon(lambda: ids(corpus) == expected or len(ids(corpus) & expected) == len(ids(corpus)) == 3)
    assert corpus.search("Paraguay")[0].passage.text == "Maté comes from Paraguay."
    soon(lambda: follower.read() >= 3)


def test_a_file_is_read_when_it_has_settled(docs, corpus, follower):
    with (docs / "slow.txt").open("w") as out:
        for number in range(12):
            out.write(f"Line {number} of a file that is still written.\n")
            out.flush()
            assert "slow.txt#1" not in ids(corpus)
            time.sleep(0.05)
    soon(lambda: "slow.txt#1" in ids(corpus))
    assert "Line 11" in corpus.get(["slow.txt#1"])[0].text
    soon(lambda: follower.read())
    assert follower.read() == 1


def test_a_changed_file_stays_as_it_was_until_it_has_settled(docs, corpus):
    patient = Following()
    (docs / "tea.md").write_text("half")
    report = watch.build([docs], corpus.path, following=patient)
    assert (report.files_read, report.files_waiting) == (0, 1)
    assert "China" in corpus.get(["tea.md#1"])[0].text
    time.sleep(0.4)
    assert watch.build([docs], corpus.path, following=patient).files_read == 1
    assert corpus.get(["tea.md#1"])[0].text == "half"


def test_a_file_that_is_written_to_without_an_end_is_read_now_and_then(docs, corpus):
    patient = Following(settled=60, longest=0.2)
    (docs / "log.txt").write_text("one")
    assert watch.build([docs], corpus.path, following=patient).files_waiting == 1
    time.sleep(0.3)
    assert watch.build([docs], corpus.path, following=patient).files_read == 1
    (docs / "log.txt").write_text("one, two")
    patient.begin()
    assert watch.build([docs], corpus.path, following=patient).files_waiting == 1
    (docs / "log.txt").unlink()
    assert watch.build([docs], corpus.path, following=patient).files_removed == 1
    time.sleep(0.3)
    (docs / "log.txt").write_text("another of that name")
    assert watch.build([docs], corpus.path, following=patient).files_waiting == 1


def test_a_file_that_never_rests_is_waited_for_half_a_minute(docs, corpus):
    (docs / "log.txt").write_text("one")
    [file] = [file for file in discover([docs]) if file.name == "log.txt"]
    for age in (29, 31):
        patient = Following(settled=60)
        patient._since[file.path] = time.monotonic() - age
        assert patient.waits_for(file) == (age < 30)


def test_a_time_to_come_and_what_is_left_out_are_not_waited_for(docs, corpus):
    patient = Following(settled=60)
    (docs / "ahead.txt").write_text("written where the clock is fast")
    os.utime(docs / "ahead.txt", (time.time() + 3600,) * 2)
    (docs / "x.bin").touch()
    report = watch.build([docs], corpus.path, following=patient)
    assert (report.files_read, report.files_left_out, report.files_waiting) == (1, 1, 0)


def test_temporary_files_of_editors_are_no_reason_to_look(docs, tmp_path):
    wakes = watch._Wakes([str(docs)], tmp_path / "docs" / "own", threading.Event())
    for name in (
        *(
            ".tea.md.swp",
            "tea.md~",
            "#tea.md#",
            ".#tea.md",
            "~$tea.docx",
            "x.tmp",
            "x.pdf.part",
            "x.crdownload",
        ),
        *(".git/index", "own/catalogue.sqlite", "own"),
    ):
        assert not wakes._matters(str(docs / name)), name
    for name in ("tea.md", "deep/x.pdf", "a#b.txt", "owner.txt"):
        assert wakes._matters(str(docs / name)), name


def test_a_document_that_word_has_open_is_no_second_one(docs, corpus):
    (docs / "~$report.docx").write_bytes(b"\x05owner")
    generation = corpus.generation
    assert corpus.refresh().files_left_out == 1
    assert ("~$report.docx", "kept by an editor while it has a document open") in corpus.info().skipped_files
    # Nothing that is searched has changed, so the index is that of before.
    assert corpus.generation == generation
    (docs / "~$report.docx").unlink()
    assert corpus.refresh().files_removed == 1
    assert corpus.info().skipped == 0


def test_a_folder_that_vanishes_leaves_the_corpus_as_it_is(docs, corpus, follower):
    before = ids(corpus)
    docs.rename(docs.with_name("away"))
    soon(lambda: any(isinstance(one, FidkitError) for one in follower.news))
    docs.mkdir()  # where it is mounted
    soon(lambda: any("found nothing to read" in str(one) for one in follower.news))
    assert ids(corpus) == before
    docs.rmdir()
    docs.with_name("away").rename(docs)
    soon(
        lambda: isinstance(follower.news[-1], BuildReport)
    )  # which changed nothing, but says that all is well
    (docs / "new.txt").write_text("Maté comes from Paraguay.")
    soon(lambda: "new.txt#1" in ids(corpus))
    assert ids(corpus) == before | {"new.txt#1"}
    (docs / "newer.txt").write_text("It is followed as before.")
    soon(lambda: "newer.txt#1" in ids(corpus))


def test_a_share_in_a_folder_is_followed_again_once_it_is_mounted(docs, tmp_path):
    with mounted(docs / "share") as share:
        (share / "milk.txt").write_text("Milk comes from cows.")
        os.utime(share / "milk.txt", (1e9, 1e9))
        corpus = Corpus.build(docs, tmp_path / "c")
        follower = Follower(docs, to=corpus.path)
        try:
            time.sleep(0.3)
            unmount(share)
            (docs / "new.txt").write_text("Maté comes from Paraguay.")  # a reason to look
            soon(lambda: any("share: isn't mounted any more" in str(one) for one in follower.news))
            assert "share/milk.txt#1" in ids(corpus)
            with mounted(share):
                (share / "milk.txt").write_text("Milk comes from oats.")
                soon(lambda: "new.txt#1" in ids(corpus))
                soon(lambda: "oats" in corpus.get(["share/milk.txt#1"])[0].text)
        finally:
            follower.end()


def test_one_of_two_sources_that_is_empty_is_away(docs, tmp_path):
    other = tmp_path / "share"
    other.mkdir()
    (other / "milk.txt").write_text("Milk comes from cows.")
    (other / ".mounted").touch()  # is nothing to read
    with Corpus.build([docs, other], tmp_path / "c") as corpus:
        (other / "milk.txt").unlink()
        for following in (Following(), None):  # by itself, or by hand
            with pytest.raises(
                AwayError, match="share: holds nothing to read any more, and 1 file of it is in"
            ):
                watch.build([docs, other], tmp_path / "c", following=following)
        assert len(corpus) == 4
        watch.build([docs], tmp_path / "c")  # somebody says so
        assert len(corpus) == 3


def test_what_nothing_was_read_from_is_not_away(docs, tmp_path):
    other = tmp_path / "pictures"
    other.mkdir()
    (other / "x.png").touch()
    with Corpus.build([docs, other], tmp_path / "c") as corpus:
        (other / "x.png").unlink()
        (docs / "deep").rename(tmp_path / "deep")
        (docs / "deep").symlink_to(tmp_path / "deep")  # left out from now on
        watch.build([docs, other], corpus.path, following=Following())
        assert ids(corpus) == {"coffee.txt#1", "tea.md#1"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
def test_a_folder_that_cannot_be_looked_into_is_away(docs, corpus):
    (docs / "deep").chmod(0)
    try:
        with pytest.raises(AwayError, match="can't be looked into"):
            watch.build([docs], corpus.path, following=Following())
    finally:
        (docs / "deep").chmod(0o755)


def test_a_fault_is_said_once_and_tried_again(docs, corpus, follower):
    kept = corpus.path.with_name("kept")
    for number in range(2):
        index, said = corpus.path / f"lexical-{corpus.generation}", len(follower.news)
        shutil.move(index, kept)
        index.symlink_to(kept)  # refused
        (docs / f"new{number}.txt").write_text("Maté comes from Paraguay.")
        soon(lambda: len(follower.news) > said)  # noqa: B023 - called at once
        time.sleep(0.5)
        [fault] = follower.news[said:]
        assert isinstance(fault, FidkitError)
        index.unlink()
        shutil.move(kept, index)
        soon(lambda: f"new{number}.txt#1" in ids(corpus))  # noqa: B023
        soon(lambda: follower.read() > number)  # noqa: B023


def test_pauses_between_faults_grow_up_to_a_minute_and_begin_anew(docs, corpus, monkeypatch):
    monkeypatch.setattr(watch, "_FIRST_PAUSE_SECONDS", 1.0)
    pauses, stop, away = [], threading.Event(), docs.with_name("away")

    def paused(_, seconds):
        pauses.append(seconds)
        if len(pauses) in (8, 9):
            away.rename(docs)

    def waited(*_):
        if len(pauses) == 9:
            stop.set()
        docs.rename(away)
        return True

    monkeypatch.setattr(watch._Wakes, "pause", paused)
    monkeypatch.setattr(watch._Wakes, "wait", waited)
    docs.rename(away)
    news = list(watch.follow([docs], corpus.path, stop=stop))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 1]
    assert [isinstance(one, FidkitError) for one in news] == [True, False, True, False]


def test_a_pause_ends_when_a_source_comes(docs, tmp_path):
    docs.rename(docs.with_name("away"))
    with watch._Wakes([str(docs)], tmp_path / "c", threading.Event()) as wakes:
        threading.Timer(0.2, docs.with_name("away").rename, [docs]).start()
        began = time.monotonic()
        wakes.pause(10 * SOON)
        assert time.monotonic() - began < SOON


def test_a_folder_in_the_place_of_another_is_followed_from_then_on(docs, tmp_path):
    with watch._Wakes([str(docs)], tmp_path / "c", threading.Event()) as wakes:
        assert not wakes._renewed()
        docs.rename(tmp_path / "before")
        docs.mkdir()
        assert wakes._renewed()
        threading.Timer(0.2, (docs / "new.txt").touch).start()
        assert wakes.wait(SOON)


def test_how_long_nothing_is_looked_at(docs, tmp_path):
    """A minute where changes are told, seconds where they aren't; longer where a look takes long."""
    folder, file = (
        watch._Wakes([str(path)], tmp_path / "c", threading.Event()) for path in (docs, docs / "tea.md")
    )
    assert [folder.longest(0.1), file.longest(0.1), folder.longest(10)] == [5, 60, 200]
    with folder:
        assert [folder.longest(0.1), folder.longest(10)] == [60, 200]


def test_looking_is_not_all_that_is_done(docs, corpus, monkeypatch):
    reports = [BuildReport(0, 0, 0, 7.0), BuildReport(1, 0, 1, 7.0), BuildReport(0, 0, 0, 0.1)]
    rests, stop = [], threading.Event()
    monkeypatch.setattr(watch, "build", lambda *_, **__: reports[len(rests)])
    monkeypatch.setattr(watch._Wakes, "wait", lambda *_: True)
    monkeypatch.setattr(stop, "is_set", lambda: len(rests) == 3)
    monkeypatch.setattr(stop, "wait", rests.append)
    assert len(list(watch.follow([docs], corpus.path, stop=stop))) == 1
    assert rests == [7.0, 0.3, 0.3]


def test_a_source_that_is_a_file(tmp_path):
    (tmp_path / "in").mkdir()
    note = tmp_path / "in" / "note.txt"
    note.write_text("one")
    with Corpus.build(note, tmp_path / "c") as corpus:
        found = Follower(note, to=tmp_path / "c")
        try:
            (tmp_path / "in" / "next").write_text("two, as editors save")
            (tmp_path / "in" / "next").replace(note)
            soon(lambda: corpus.get(["note.txt#1"])[0].text == "two, as editors save")
            note.write_text("three, in place")
            soon(lambda: corpus.get(["note.txt#1"])[0].text == "three, in place")
        finally:
            found.end()


def test_where_the_system_tells_nothing_there_is_a_look_now_and_then(docs, corpus, monkeypatch, caplog):
    def refused(*_):
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr("watchfiles._rust_notify.RustNotify", refused)
    monkeypatch.setattr(watch, "_LOOK_UNTOLD_SECONDS", 0.2)
    monkeypatch.setattr(watch, "_LOOK_SHARE", 1)
    found = Follower(docs, to=corpus.path)
    try:
        for number in range(2):
            (docs / f"new{number}.txt").write_text("Maté comes from Paraguay.")
            soon(lambda: f"new{number}.txt#1" in ids(corpus))  # noqa: B023 - called at once
        docs.rename(docs.with_name("away"))
        soon(lambda: any(isinstance(one, FidkitError) for one in found.news))
        docs.with_name("away").rename(docs)  # refused once more
        soon(lambda: isinstance(found.news[-1], BuildReport))
    finally:
        found.end()
    assert caplog.text.count("the system doesn't tell of changes (OS file watch limit reached)") == 1


def test_a_wrong_call_is_no_fault_to_be_tried_again(tmp_path):
    with pytest.raises(UsageError, match="no sources given"):
        next(watch.follow([], tmp_path / "c"))


def test_what_is_said_of_a_build():
    many = tuple(f"f{number}" for number in range(2000))
    for report, what in (
        (BuildReport(1, 1, 1, 0.25, changes=Changes(changed=("a\nb.md",))),
         "1 file changed: a\\nb.md; 1 passage, 0.2 s"),
        (BuildReport(2000, 3, 4000, 1, 4, 5, Changes(many[:2000], (), many[:3], many[:4])),
         "2,000 files added: f0, f1, f2 and 1,997 more; 3 files removed: f0, f1, f2; 4 files left out: "
         "f0, f1, f2 and 1 more; 5 files being written; 4,000 passages, 1.0 s"),
        (BuildReport(0, 0, 0, 0), "as the sources are; 0 passages, 0.0 s"),
    ):  # fmt: skip
        assert watch.said(report, Path("c")) == f"c: {what}"


def test_the_command_line_says_what_each_change_did(docs, tmp_path):
    command = ["corpus", "build", str(docs), "--to", str(tmp_path / "c"), "--no-vectors", "--watch", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from fidkit.cli import main; main()", *command],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert str(tmp_path / "c") in process.stdout.readline()
        (docs / "new.txt").write_text("Maté comes from Paraguay.")
        (docs / "coffee.txt").unlink()
        added, removed = [], []
        while not (added and removed):  # at once or one after the other
            news = json.loads(process.stdout.readline())
            added += news["changes"]["added"]
            removed += news["changes"]["removed"]
            assert news["build"]["files_removed"] == len(news["changes"]["removed"])
        assert (added, removed) == (["new.txt"], ["coffee.txt"])
        process.send_signal(signal.SIGINT)
        assert process.wait(SOON) == 130
    finally:
        process.kill()
        process.communicate()


def test_without_watchfiles_one_line_says_how_to_get_it(monkeypatch, docs, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "watchfiles", None)
    with pytest.raises(UsageError, match=r"`pip install 'fidkit\[documents\]'` brings it"):
        next(watch.follow([docs], tmp_path / "c"))


def test_when_it_is_quiet_the_index_becomes_that_of_a_fresh_build(
    docs, corpus, follower, tmp_path, monkeypatch
):
    for number in range(10):
        (docs / f"note{number}.txt").write_text(f"Note {number} comes from somewhere.")
    soon(lambda: len(corpus) == 13)
    (docs / "coffee.txt").write_text("Coffee comes from Ethiopia, and from Yemen.")
    soon(lambda: "Yemen" in corpus.get(["coffee.txt#1"])[0].text)
    with Corpus.build(docs, tmp_path / "fresh") as fresh:
        expected = {(hit.passage, hit.score) for hit in fresh.search("coffee comes from")}
    looks, build = [], watch.build
    monkeypatch.setattr(watch, "build", lambda *given, **more: looks.append(1) or build(*given, **more))
    for number in range(1, 3):  # something happens, even if it changes nothing
        (docs / f"empty{number}").mkdir()
        soon(lambda: len(looks) >= number)  # noqa: B023 - called at once
    assert removed(corpus) == 1
    monkeypatch.setattr(watch, "_LOOK_SECONDS", 0.2)
    (docs / "x.bin").touch()  # a reason to look, after which waits are short
    soon(lambda: removed(corpus) == 0)
    assert {(hit.passage, hit.score) for hit in corpus.search("coffee comes from")} == expected
