"""Many writers of one corpus, and replicas that follow."""

import hashlib
import os
import random
import shutil
import threading
import time
from contextlib import closing

import psycopg
import pytest

from fidkit.errors import CorpusError, DataError
from fidkit.passages import Corpus
from fidkit.passages.load.record import Row
from fidkit.passages.local.catalogue import Catalogue
from fidkit.passages.local.layout import writer_lock
from fidkit.passages.postgres import build as building
from fidkit.passages.postgres import corpus as corpora
from fidkit.passages.postgres import feeding
from fidkit.passages.postgres import replica as replicas
from fidkit.passages.postgres.address import address_of
from fidkit.passages.postgres.change import Change, NewFile, files_of, rows_as_parts
from fidkit.passages.postgres.database import Database
from fidkit.passages.postgres.log import Log

WRITERS = 6


def named(number, version, passages=3):
    rows = [
        Row(f"f{number}#{at}", f"file {number}", f"version {version} part {at}") for at in range(passages)
    ]
    return NewFile(f"f{number}", f"/f{number}", "passages"), lambda: rows_as_parts(rows)


@pytest.fixture
def log(url):
    database = Database(address_of(url))
    yield Log(database)
    database.close()


@pytest.fixture
def corpus(log):
    """Number of a corpus with one file."""
    number = log.open(make=True).corpus
    log.put(number, *named(0, 0))
    return number


def on_threads(work):
    failed = []

    def guarded(writer):
        try:
            work(writer)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_writers_of_one_file_leave_one_version_whole(log, corpus, url):
    on_threads(lambda writer: [log.put(corpus, *named(7, f"{writer}.{turn}", 20)) for turn in range(5)])
    with Corpus.open(url) as replica:
        texts = [passage.text.split(" part ")[0] for passage in replica if passage.id.startswith("f7#")]
    assert len(texts) == 20
    assert len(set(texts)) == 1


def test_writers_of_many_files_lose_and_double_nothing(log, corpus, url):
    def write(writer):
        draw = random.Random(writer)
        for turn in range(12):
            number = 100 * writer + draw.randrange(1, 6)
            log.put(corpus, *named(number, f"{writer}.{turn}"))
            last[number] = f"version {writer}.{turn}"
            if turn % 4 == 3:
                log.remove(corpus, f"f{number}")
                del last[number]

    last = {0: "version 0"}
    before = log.state().sequence
    with Corpus.open(url) as replica:
        on_threads(write)
        replica.refresh()
        found = {}
        for passage in replica:
            found.setdefault(int(passage.id.split("#")[0][1:]), []).append(passage.text)
    assert found == {n: [f"{text} part {at}" for at in range(3)] for n, text in last.items()}
    assert log.state().sequence == before + WRITERS * (12 + 3)
    assert log.state().passages == 3 * len(last)


def test_a_reader_never_skips_a_change(log, corpus):
    """A number that is seen means that all below it are."""
    seen = threading.Event()

    def look():
        while not seen.is_set():
            with psycopg.connect(log.database.address.conninfo) as connection:
                top, count = connection.execute(
                    "SELECT c.sequence, (SELECT count(DISTINCT sequence) FROM fidkit.files f WHERE "
                    "f.corpus = c.corpus) FROM fidkit.corpora c WHERE corpus = %s", (corpus,)
                ).fetchone()  # fmt: skip
            assert top == count

    looking = threading.Thread(target=look)
    looking.start()
    try:
        on_threads(lambda writer: [log.put(corpus, *named(100 * writer + n + 1, n)) for n in range(10)])
    finally:
        seen.set()
        looking.join()
    assert log.state().sequence == 1 + WRITERS * 10


def test_a_snapshot_is_of_one_moment_and_changes_nothing(log, corpus, url):
    other = Log(Database(address_of(url)))

    def look(connection):
        before = len(files_of(connection, corpus))
        other.put(corpus, *named(before, 0))
        return before, len(files_of(connection, corpus))

    assert log.database.run(look, snapshot=True) == (1, 1)
    assert log.database.run(look) == (2, 3)
    with pytest.raises(CorpusError, match=r"the database refuses .*read-only transaction"):
        log.database.run(lambda sql: sql.execute("DELETE FROM fidkit.removed"), snapshot=True)
    other.database.close()


def test_an_id_of_another_file_is_refused_and_leaves_all_as_it_was(log, corpus):
    before = log.state()
    with pytest.raises(DataError, match="'f0#1' occurs in f0 already"):
        log.put(corpus, NewFile("other", "/other", "passages"), lambda: rows_as_parts([Row("f0#1", "", "x")]))
    assert log.state() == before


def test_a_file_that_was_read_again_is_not_taken_out_for_the_one_before(log, corpus):
    [before] = log.database.run(lambda connection: files_of(connection, corpus))
    log.put(corpus, *named(0, 1))
    for number, left in ((before.file, 1), (None, 0)):
        log.write(corpus, ["f0"], lambda change, number=number: change.remove("f0", number))
        assert len(log.database.run(lambda connection: files_of(connection, corpus))) == left


def test_a_file_is_kept_with_the_hash_of_what_was_read(docs, url, log, write_rows):
    write_rows(docs / "rows.jsonl", [{"id": "1", "text": "Milk comes from cows."}])
    Corpus.build(docs, url).close()
    kept = log.database.run(lambda sql: files_of(sql, log.seen_by(sql).corpus))
    names = ("coffee.txt", "deep/cocoa.txt", "rows.jsonl", "tea.md")
    hashes = {name: hashlib.sha256((docs / name).read_bytes()).hexdigest() for name in names}
    assert {record.name: record.sha256 for record in kept} == hashes


def test_nothing_stays_of_a_file_that_was_taken_out(docs, url, log):
    Corpus.build(docs, url).close()
    corpus = log.state().corpus
    gone = [record.file for record in log.database.run(lambda sql: files_of(sql, corpus))]
    for name in ("tea.md", "coffee.txt", "deep/cocoa.txt"):
        log.remove(corpus, name)
    for table in ("passages", "documents", "files"):
        query = f"SELECT count(*) FROM fidkit.{table} WHERE file = ANY(%s)"
        left = log.database.run(lambda sql, query=query: sql.execute(query, (gone,)).fetchone())
        assert left == (0,), table


def test_what_postgres_cannot_keep_is_said(log, corpus):
    for text in ("a\x00b", "half \ud800"):
        with pytest.raises(DataError, match="odd: expected text without NUL and without halves"):
            log.put(
                corpus,
                NewFile("odd", "/odd", "passages"),
                lambda text=text: rows_as_parts([Row("1", "", text)]),
            )


def test_what_another_build_read_meanwhile_is_not_taken_out(url, tmp_path, monkeypatch):
    """A file that came after a build had looked at its folder, and that another build has put there."""
    docs, looked, between = tmp_path / "docs", building.discover, []
    docs.mkdir()
    for name in "ab":
        (docs / f"{name}.txt").write_text(f"The text of {name}.")
    Corpus.build(docs, url).close()
    (docs / "a.txt").unlink()

    def held_up(sources):
        found = looked(given := list(sources))
        if not between:
            between.append(given)
            (docs / "c.txt").write_text("The text of c.")
            Corpus.build(docs, url).close()
        return found

    monkeypatch.setattr(building, "discover", held_up)
    with Corpus.build(docs, url) as built:
        assert sorted(passage.text for passage in built) == ["The text of b.", "The text of c."]


def test_a_machine_that_numbers_files_otherwise_changes_nothing(docs, url, log, tmp_path):
    """Where no other file has a file's time: each may see the folder through a file system of its own."""
    for number, name in enumerate(("coffee.txt", "deep/cocoa.txt", "tea.md")):
        os.utime(docs / name, ns=(10**18 + number, 10**18 + number))
    Corpus.build(docs, url).close()
    before = log.state()
    shutil.copytree(docs, tmp_path / "copy")
    docs.rename(tmp_path / "original")
    (tmp_path / "copy").rename(docs)
    Corpus.build(docs, url).close()
    assert log.state() == before


def test_a_named_file_that_is_none_ends_a_build(docs, url, tmp_path):
    """One that was found in a folder is left out instead."""
    (tmp_path / "odd.md").write_bytes(b"\0\1\2" * 100)
    (docs / "odd.md").write_bytes(b"\0\1\2" * 100)
    with Corpus.build(docs, url) as corpus:
        assert len(corpus) == 3
    with pytest.raises(DataError, match=r"odd\.md"):
        Corpus.build([docs, tmp_path / "odd.md"], url)


def test_what_was_read_apart_is_put_again_where_the_connection_was_lost(docs, url, monkeypatch):
    """A worker says once what is in a file, and then what is in the next."""
    for name in ("one", "two"):
        (docs / f"{name}.html").write_text(f"<p>Number {name}.</p>")
    seal, lost = Change.seal, []

    def losing(self, facts=None):
        if not lost and self._came and self._came[0].file.name == "one.html":
            lost.append(self)
            self._sql.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return seal(self, facts)

    monkeypatch.setattr(Change, "seal", losing)
    with Corpus.build(docs, url) as corpus:
        texts = [corpus.document(f"{name}.html").text.strip() for name in ("one", "two")]
        assert texts == ["Number one.", "Number two."]
    assert lost


def test_what_was_read_together_counts_once_where_the_connection_was_lost(
    url, tmp_path, write_rows, monkeypatch
):
    docs, seal, lost, told = tmp_path / "docs", Change.seal, [], []
    for name in "ab":
        write_rows(docs / f"{name}.jsonl", [{"id": f"{name}{n}", "text": f"Part {n}."} for n in range(3)])

    def losing(self, facts=None):
        if not lost and self._came:
            lost.append(self)
            self._sql.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return seal(self, facts)

    monkeypatch.setattr(Change, "seal", losing)
    with Corpus.build(docs, url, told.append) as corpus:
        assert (corpus.report.files_read, corpus.report.passages_read, len(corpus)) == (2, 6, 6)
    assert lost
    read = [state for state in told if state.stage == "read" and state.total_files]
    assert [(state.done_files, state.passages) for state in read] == [(1, 3), (2, 6)] * 2
    assert all(state.done_bytes <= state.total_bytes for state in read)


def test_a_file_that_vanishes_meanwhile_ends_a_build_and_is_said(docs, url):
    def vanish(progress):
        (docs / "tea.md").unlink(missing_ok=True)

    with pytest.raises(CorpusError, match=r"tea\.md: can't be read \(No such file or directory\); check the"):
        Corpus.build(docs, url, vanish)


def test_a_replica_reads_only_what_changed(log, corpus, url):
    for number in range(1, 30):
        log.put(corpus, *named(number, 0))
    with Corpus.open(url) as replica:
        log.put(corpus, *named(3, "new"))
        log.remove(corpus, "f4")
        report = replica.refresh()
        assert (report.files_read, report.files_removed) == (1, 2)
        assert len(replica) == 29 * 3
        assert replica.refresh().files_read == 0
        assert len(list(replica.path.glob("lexical-*"))) == 1  # what was searched before is gone


def test_a_replica_begins_again_where_its_connection_was_lost(log, corpus, url, monkeypatch):
    log.put(corpus, *named(1, 0))
    read, lost = feeding.Feeding._read, []

    def losing(self, *given):
        read(self, *given)
        if not lost:
            lost.append(given)
            self._sql.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(feeding.Feeding, "_read", losing)
    with Corpus.open(url) as replica:
        assert [passage.id for passage in replica] == [f"f{file}#{at}" for file in (0, 1) for at in range(3)]
        assert len(replica.search("version 0", 10)) == 6
    assert lost


def test_a_replica_reads_the_state_of_one_moment(log, corpus, url, monkeypatch):
    changed, written = feeding.Feeding._changed, []

    def later(self, since):
        if not written:
            written.append(log.put(corpus, *named(1, 0)))
        return changed(self, since)

    monkeypatch.setattr(feeding.Feeding, "_changed", later)
    with Corpus.open(url) as replica:
        assert len(replica) == 3
        replica.refresh()
        assert len(replica) == 6


def test_replicas_with_different_histories_find_the_same(log, corpus, url, monkeypatch, tmp_path):
    draw = random.Random(0)
    with Corpus.open(url) as often:
        for turn in range(30):
            log.put(corpus, *named(draw.randrange(12), turn))
            if turn % 10 == 5:
                log.remove(corpus, f"f{draw.randrange(12)}")
            if turn % 3 == 0:
                often.refresh()
        often.refresh()
        monkeypatch.setenv("FIDKIT_HOME", str(tmp_path / "another"))
        with Corpus.open(url) as once:
            assert once.path != often.path
            assert (once.generation, once.fingerprint) == (often.generation, often.fingerprint)
            assert list(once) == list(often)
            for question in ("version 29", "part 1", "file 3", "version part file"):
                assert once.search(question) == often.search(question)


def test_a_large_replica_is_patched_and_settles(log, corpus, url, monkeypatch, tmp_path):
    monkeypatch.setattr(feeding, "_PATCHED_FROM", 0)
    monkeypatch.setattr(feeding, "_PATCHED_SHARE", 1.0)
    for number in range(1, 8):
        log.put(corpus, *named(number, "old"))
    database = Database(address_of(url))
    replica = replicas.Replica(Log(database), None)
    replica.catch_up()
    with monkeypatch.context() as small:
        small.setattr(feeding, "_PATCHED_FROM", 1000)
        log.put(corpus, *named(3, "newer"))
        replica.catch_up()
        assert not replica.settle()  # it was written afresh, as a small one is each time
    log.put(corpus, *named(3, "new"))
    replica.catch_up()
    with Corpus.open(replica.directory) as patched:
        before = patched.search("old part")
        assert replica.settle()
        after = patched.search("old part")
        assert not replica.settle()
        assert {hit.passage for hit in before} == {hit.passage for hit in after}
        assert before != after  # removed passages counted in its scores
        assert replica.known() == (log.state().identity, log.state().sequence)
    monkeypatch.setenv("FIDKIT_HOME", str(tmp_path / "another"))
    with Corpus.open(url) as fresh:
        assert fresh.search("old part") == after
    database.close()


def test_a_replica_that_is_open_settles_once_nothing_comes(log, corpus, url, monkeypatch):
    monkeypatch.setattr(feeding, "_PATCHED_FROM", 0)
    monkeypatch.setattr(feeding, "_PATCHED_SHARE", 1.0)
    monkeypatch.setattr(corpora, "_LOOK_SECONDS", 0.01)

    def removed():
        with closing(Catalogue.for_reading(replica.path)) as catalogue:
            return int(catalogue.meta()["removed_since_fresh"])

    with Corpus.open(url) as replica:
        for number in range(1, 4):
            log.put(corpus, *named(number, "old"))
        assert soon(lambda: len(replica) == 12)
        monkeypatch.setattr(corpora, "_LOOK_SECONDS", 600)
        log.put(corpus, *named(3, "new"))
        replica.refresh()
        log.put(corpus, *named(2, "new"))
        replica.refresh()
        assert removed() == 6  # of both changes
    monkeypatch.setattr(corpora, "_LOOK_SECONDS", 0.01)
    with Corpus.open(url) as replica:
        looks, catch_up = [], replica._replica.catch_up
        monkeypatch.setattr(replica._replica, "catch_up", lambda **how: looks.append(1) or catch_up(**how))
        assert soon(lambda: removed() == 0)
        looks.clear()
        assert soon(lambda: len(looks) > 2)  # else the next change might come at the very look that settled
        log.put(corpus, *named(3, "newest"))
        last = log.state().sequence
        assert soon(lambda: replica.generation == last and removed() == 0)  # as often as it takes
    assert soon(lambda: not any(thread.name == "fidkit-follow" for thread in threading.enumerate()))


def soon(holds, seconds=20):
    until = time.monotonic() + seconds
    while time.monotonic() < until and not holds():
        time.sleep(0.02)
    return holds()


def test_another_way_to_cut_is_gone_on_with(url, tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    for number in range(3):
        (docs / f"{number}.txt").write_text("One sentence of seven words stands here. " * 20)
    Corpus.build(docs, url).close()

    def stop(state):
        if state.stage == "read" and state.done_files == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Corpus.build(docs, url, stop, passage_words=21)
    with Corpus.build(docs, url) as corpus:
        assert 0 < corpus.report.files_read < 3
        assert max(len(passage.text.split()) for passage in corpus) == 21


def test_who_has_no_replica_yet_waits_for_the_one_that_makes_it(log, corpus, url):
    directory = address_of(url).directory
    directory.mkdir(parents=True)
    opened = []
    with writer_lock(directory):
        waiting = threading.Thread(target=lambda: opened.append(Corpus.open(url)))
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
    waiting.join(20)
    with opened[0] as replica, writer_lock(directory):
        assert len(replica) == 3
        log.put(corpus, *named(1, 0))
        with Corpus.open(url) as before:  # who has one answers from the state of before
            assert len(before) == 3


def test_a_replica_of_a_corpus_that_was_made_anew_is_made_anew(log, corpus, url):
    log.put(corpus, *named(5, 1))
    with Corpus.open(url) as replica:
        assert len(replica) == 6
    with psycopg.connect(log.database.address.conninfo) as connection:
        for table in ("files", "removed", "corpora"):
            connection.execute(f"DELETE FROM fidkit.{table} WHERE corpus = %s", (corpus,))
        connection.execute("DELETE FROM fidkit.passages WHERE corpus = %s", (corpus,))
    log.put(log.open(make=True).corpus, *named(1, "fresh"))
    with Corpus.open(url) as replica:
        assert [passage.id for passage in replica] == ["f1#0", "f1#1", "f1#2"]


def test_a_replica_has_the_numbers_of_the_corpus_that_it_is_of(log, corpus, url):
    """Another corpus may say the same at the same change."""
    Corpus.open(url).close()
    with psycopg.connect(log.database.address.conninfo) as connection:
        connection.execute("DELETE FROM fidkit.passages WHERE corpus = %s", (corpus,))
        for table in ("files", "corpora"):
            connection.execute(f"DELETE FROM fidkit.{table} WHERE corpus = %s", (corpus,))
    before, other = log.database.run(lambda sql: files_of(sql, corpus)), log.open(make=True).corpus
    assert before == []
    log.put(other, *named(0, 0))
    with Corpus.open(url) as replica, closing(Catalogue.for_reading(replica.path)) as catalogue:
        theirs = log.database.run(lambda sql: files_of(sql, other))
        assert [record.file for record in catalogue.files()] == [record.file for record in theirs]
        assert replica.search("version 0")


@pytest.mark.parametrize("more", [0, 1, 2])
def test_a_log_that_was_put_back_and_went_on_is_noticed(log, corpus, url, more, caplog):
    """As after a backup was played back: the numbers go on, and mean something else."""
    columns = "sequence, passages, fingerprint"
    with psycopg.connect(log.database.address.conninfo, autocommit=True) as connection:
        query = f"SELECT {columns} FROM fidkit.corpora WHERE corpus = %s"
        before = connection.execute(query, (corpus,)).fetchone()
        log.put(corpus, *named(9, 0))
        with Corpus.open(url) as replica:
            assert len(replica) == 6
        connection.execute("DELETE FROM fidkit.passages WHERE corpus = %s AND id LIKE 'f9#%%'", (corpus,))
        connection.execute("DELETE FROM fidkit.files WHERE corpus = %s AND name = 'f9'", (corpus,))
        back = f"UPDATE fidkit.corpora SET ({columns}) = (%s, %s, %s) WHERE corpus = %s"
        connection.execute(back, (*before, corpus))
    for number in range(1, more + 1):
        log.put(corpus, *named(number, 0))
    with Corpus.open(url) as replica:
        assert [passage.id.split("#")[0] for passage in replica][::3] == [f"f{n}" for n in range(more + 1)]
    assert ("it is made anew" in caplog.text) == (more > 0)  # a number too large says it before all is read


def test_a_corpus_that_is_not_there_is_said(log, url):
    log.open(make=True)
    with pytest.raises(
        CorpusError, match=r"no corpus is called 'nowhere' here \(there are: '.*\?corpus=NAME"
    ):
        Corpus.open(url.split("&corpus")[0] + "&corpus=nowhere")
