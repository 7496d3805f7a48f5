"""Search by meaning in a database: vectors are made once, replicas find what a directory finds, and a server
searches where a machine keeps nothing.
"""

import logging
import threading
import uuid
from dataclasses import replace

import numpy as np
import psycopg
import pytest

import word_vectors
from fidkit import Filter, native
from fidkit.engine.meaning import minilm
from fidkit.errors import CorpusError
from fidkit.passages import Corpus
from fidkit.passages.local import builder
from fidkit.passages.local.vectors import Wanted
from fidkit.passages.postgres import schema, server_meaning
from fidkit.passages.postgres.address import address_of
from fidkit.passages.postgres.change import files_of
from fidkit.passages.postgres.database import Database
from fidkit.passages.postgres.log import Log
from fidkit.passages.postgres.replica import Replica
from fidkit.passages.postgres.vectors import taken
from fidkit.passages.search.encoder import VectorEncoder

QUESTIONS = [*(word_vectors.text(n) for n in (3, 7, 40)), "w1", "w9 w14"]


class Counting:
    """An encoder that notes what it encodes, and may do something else first."""

    def __init__(self, fingerprint="words", dimension=word_vectors.DIMENSION):
        self.encoded, self.first = [], None
        made = word_vectors.encoder(dimension, fingerprint)

        def passages(texts):
            if self.first is not None:
                first, self.first = self.first, None
                first()
            self.encoded.extend(texts)
            return made.passages(texts)

        self._made = VectorEncoder(fingerprint, fingerprint, dimension, passages, made.questions)

    def __call__(self):
        return self._made


@pytest.fixture
def counting():
    return Counting()


@pytest.fixture
def docs(tmp_path, monkeypatch):
    # Words that were removed count in tantivy's scores until it is written anew: here it always is.
    monkeypatch.setattr(builder, "_PATCHED_SHARE", 0)
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02}.md").write_text(word_vectors.text(number))
    return folder


@pytest.fixture
def log(url):
    database = Database(address_of(url))
    yield Log(database)
    database.close()


def served(url):
    return f"{url}&replica=none"


def found(corpus, by, where=None):
    return [corpus.search(question, 5, by, where=where) for question in QUESTIONS]


def change(docs, turn):
    """A file goes, one comes, one says something else, and one lies elsewhere."""
    (docs / f"{turn:02}.md").unlink()
    (docs / f"new{turn}.md").write_text(word_vectors.text(60 + turn))
    (docs / f"{turn + 5:02}.md").write_text(word_vectors.text(80 + turn))
    (docs / f"moved{turn}").mkdir()
    (docs / f"{turn + 8:02}.md").rename(docs / f"moved{turn}" / f"{turn + 8:02}.md")


# Replicas


def test_replicas_find_what_a_directory_finds(docs, url, tmp_path, monkeypatch, counting):
    with Corpus.build(docs, tmp_path / "c", encoder=counting), Corpus.build(docs, url, encoder=counting):
        pass
    for turn in range(2):
        change(docs, turn)
        with (
            Corpus.build(docs, tmp_path / "c", encoder=counting) as local,
            Corpus.build(docs, url, encoder=counting) as here,
        ):
            counting.encoded.clear()
            for home in ("followed", f"new{turn}"):
                with monkeypatch.context() as elsewhere:
                    elsewhere.setenv("FIDKIT_HOME", str(tmp_path / home))
                    with Corpus.open(url, counting) as another:
                        for by in ("meaning", "both", None):
                            assert found(here, by) == found(another, by) == found(local, by)
                        assert another.info().vectors["passages"] == len(another) == 12
            assert not counting.encoded


@pytest.mark.skipif(native.kernels() is None, reason="needs native kernels")
def test_vectors_of_minilm_are_those_of_a_directory(docs, url, tmp_path, monkeypatch):
    (docs / "tea.txt").write_text("Tea comes from China. " * 40)
    with Corpus.build(docs, tmp_path / "c", encoder=minilm) as local:
        Corpus.build([docs / "tea.txt"], url, encoder=minilm).close()
        Corpus.build(docs, url, encoder=minilm).close()
        monkeypatch.setenv("FIDKIT_HOME", str(tmp_path / "another"))
        with Corpus.open(url, minilm) as replica:
            for by in ("meaning", "both"):
                assert replica.search("Where is tea from?", 9, by) == local.search(
                    "Where is tea from?", 9, by
                )


def test_a_build_encodes_what_is_new(docs, url, counting):
    Corpus.build(docs, url, encoder=counting).close()
    assert len(counting.encoded) == 12
    counting.encoded.clear()
    change(docs, 0)
    Corpus.build(docs, url, encoder=counting).close()
    assert len(counting.encoded) == 2  # what only moved isn't


def test_a_replica_makes_what_nobody_made_and_a_build_shares_it(docs, url, tmp_path, counting, monkeypatch):
    Corpus.build(docs, url, encoder=counting).close()
    (docs / "more.md").write_text(word_vectors.text(50))
    Corpus.build(docs, url).close()
    counting.encoded.clear()
    with Corpus.open(url, counting) as replica:
        assert replica.search(word_vectors.text(50), 1, "meaning")[0].passage.id == "more.md#1"
    assert len(counting.encoded) == 1
    Corpus.build(docs, url, encoder=counting).close()
    monkeypatch.setenv("FIDKIT_HOME", str(tmp_path / "another"))
    with Corpus.open(url, counting) as replica:
        assert replica.info().vectors["passages"] == 13
    assert len(counting.encoded) == 1


def test_a_file_may_have_more_passages_than_a_record(url, log, tmp_path, monkeypatch, write_rows, counting):
    lines = [{"id": n, "text": word_vectors.text(n)} for n in range(1500)]
    source = write_rows(tmp_path / "in" / "many.jsonl", lines)
    with (
        Corpus.build(source, url, encoder=counting) as corpus,
        Corpus.build(source, tmp_path / "c", encoder=counting) as local,
    ):
        monkeypatch.setenv("FIDKIT_HOME", str(tmp_path / "another"))
        counting.encoded.clear()
        with Corpus.open(url, counting) as another:
            assert found(corpus, "meaning") == found(another, "meaning") == found(local, "meaning")
            assert not counting.encoded
        with Corpus.build(source, served(url), encoder=counting) as there:
            ids = [[hit.passage.id for hit in hits] for hits in found(there, "meaning")]
            assert ids == [[hit.passage.id for hit in hits] for hits in found(local, "meaning")]


def test_a_corpus_that_grew_keeps_its_vectors_everywhere(docs, url, log, tmp_path, monkeypatch, counting):
    monkeypatch.setattr("fidkit.passages.postgres.sharing.MOST_UNASKED", 12)
    monkeypatch.setattr("fidkit.passages.local.vectors.MOST_UNASKED", 12)
    Corpus.build(docs, url, encoder=counting).close()
    (docs / "more.md").write_text(word_vectors.text(50))
    Corpus.build(docs, url, encoder=counting).close()
    monkeypatch.setenv("FIDKIT_HOME", str(tmp_path / "another"))
    counting.encoded.clear()
    with Corpus.open(url, counting) as another:
        assert another.info().vectors["passages"] == 13
    assert not counting.encoded


def test_vectors_are_taken_of_the_rows_that_are_asked_for_and_of_one_encoder(
    url, log, tmp_path, write_rows, counting
):
    source = write_rows(tmp_path / "a.jsonl", [{"id": n, "text": word_vectors.text(n)} for n in range(6)])
    Corpus.build(source, url, encoder=counting).close()
    corpus = log.state().corpus
    files = log.database.run(lambda sql: files_of(sql, corpus))
    rows = files[0].first_row + np.array([1, 4])
    [some] = taken(log, corpus, files, counting(), rows)
    assert some.rows.tolist() == rows.tolist()
    for name in ("another", "yet another"):
        assert list(taken(log, corpus, files, Counting(name)(), rows)) == []


def test_a_replica_without_vectors_takes_them_once_it_has_an_encoder(
    docs, url, tmp_path, counting, monkeypatch
):
    Corpus.build(docs, url, encoder=counting).close()
    monkeypatch.setattr("fidkit.passages.local.vectors.MOST_UNASKED", 11)
    monkeypatch.setenv("FIDKIT_HOME", str(tmp_path / "another"))
    with Corpus.open(url) as corpus:
        assert corpus.info().vectors is None
    counting.encoded.clear()
    with Corpus.open(url, counting) as replica:
        assert replica.search(QUESTIONS[0], 1, "meaning")[0].passage.id == "03.md#1"
    assert not counting.encoded


def test_vectors_of_a_replica_are_looked_at_once_a_state(docs, url, log, counting, monkeypatch):
    Corpus.build(docs, url, encoder=counting).close()
    replica, looked, is_met = Replica(log, counting), [], Wanted.is_met
    monkeypatch.setattr(Wanted, "is_met", lambda *given: looked.append(1) or is_met(*given))
    for change in range(2):
        replica.catch_up()
        looked.clear()
        assert [replica.catch_up() for _ in range(3)] == [(0, 0)] * 3
        assert len(looked) == change  # once after what it wrote itself
        log.remove(log.state().corpus, "03.md")


def test_what_an_encoder_made_is_carried_on_by_one_that_knows_it(
    docs, url, log, counting, tmp_path, monkeypatch
):
    Corpus.build(docs, url, encoder=counting).close()
    counting.encoded.clear()
    (docs / "more.md").write_text(word_vectors.text(50))
    other = Counting("other")
    knowing = replace(other(), others=(counting(),))
    Corpus.build(docs, url, encoder=lambda: knowing).close()
    assert (len(counting.encoded), log.state().encoder.name) == (1, "words")
    monkeypatch.setenv("FIDKIT_HOME", str(tmp_path / "another"))
    with Corpus.open(url, lambda: knowing) as replica:
        found = replica.search(word_vectors.text(50), 1, "meaning")
        assert found[0].passage.id == "more.md#1"
        assert (len(counting.encoded), len(other.encoded)) == (1, 0)


def test_no_vectors_are_had_where_none_are_wanted(docs, url, log, counting, caplog):
    Corpus.build(docs, served(url), encoder=counting).close()
    with Corpus.build(docs, url, encoder=counting, vectors=False) as corpus:
        assert corpus.info().vectors is None
    with Corpus.open(url, counting) as corpus:
        assert corpus.info().vectors is None
    left = "SELECT (SELECT count(*) FROM fidkit.vectors v JOIN fidkit.files USING (file) WHERE corpus = %s)"
    number = log.state().corpus
    assert log.database.run(lambda sql: sql.execute(left, (number,)).fetchone()) == (0,)
    with Corpus.open(served(url), counting) as corpus:
        with pytest.raises(CorpusError, match="by meaning here yet"):
            corpus.search("w1", by="meaning")
        assert corpus.search("w1") == corpus.search("w1", by="words")
        assert caplog.text == ""  # what nobody asked for is lacking


def test_a_build_that_was_ended_goes_on(docs, url, counting, monkeypatch):
    monkeypatch.setattr("fidkit.passages.postgres.sharing.BLOCK", 4)
    seen = []

    def end():
        seen.append(len(counting.encoded))
        counting.first = end
        if len(counting.encoded) == 8:
            raise KeyboardInterrupt

    counting.first = end
    with pytest.raises(KeyboardInterrupt):
        Corpus.build(docs, url, encoder=counting)
    assert len(counting.encoded) == 8
    counting.first = None
    Corpus.build(docs, url, encoder=counting).close()
    assert len(counting.encoded) == 12


def test_a_file_that_goes_while_it_is_encoded_leaves_nothing(docs, url, log, counting):
    counting.first = lambda: log.remove(log.state().corpus, "03.md")
    with Corpus.build(docs, url, encoder=counting) as corpus:
        assert corpus.info().vectors["passages"] == len(corpus) == 11
    count = "SELECT count(*) FROM fidkit.vectors v LEFT JOIN fidkit.files f USING (file) WHERE f.file IS NULL"
    assert log.database.run(lambda sql: sql.execute(count).fetchone()) == (0,)


def test_without_an_encoder_vectors_stay_and_what_lacks_them_is_said(docs, url, log, counting, caplog):
    Corpus.build(docs, url, encoder=counting).close()
    change(docs, 0)
    Corpus.build(docs, url).close()
    assert "3 passages have no vectors, since no encoder was given" in caplog.text
    assert log.state().encoder.name == "words"


def test_vectors_of_another_encoder_are_made_anew(docs, url, log, counting, tmp_path, monkeypatch):
    Corpus.build(docs, served(url), encoder=counting).close()
    other = Counting("other", 60)
    with Corpus.build(docs, served(url), encoder=other) as corpus:
        assert corpus.info().vectors == {"encoder": "other", "dimension": 60, "passages": 12}
        assert corpus.search(QUESTIONS[0], 1, "meaning")[0].passage.id == "03.md#1"
    assert len(other.encoded) == 12
    monkeypatch.setenv("FIDKIT_HOME", str(tmp_path / "another"))
    counting.encoded.clear()
    with Corpus.open(url, counting) as replica:  # it has its own, as it searches with
        assert replica.search(QUESTIONS[0], 1, "meaning")[0].passage.id == "03.md#1"
    assert len(counting.encoded) == 12


def test_vectors_of_a_replica_are_used_again_by_their_encoder_alone(docs, url, counting):
    Corpus.build(docs, url, encoder=counting).close()
    other = Counting("other")
    Corpus.build(docs, url, encoder=other).close()
    assert len(other.encoded) >= 12


def test_two_builds_with_two_encoders_at_once_are_said(docs, url, counting):
    other = Counting("other")
    counting.first = lambda: Corpus.build(docs, url, encoder=other).close()
    with pytest.raises(CorpusError, match=r"with another encoder just now.*this is 'words'"):
        Corpus.build(docs, url, encoder=counting)


def test_two_builds_at_once_make_vectors_once(docs, url, counting):
    counting.first = lambda: Corpus.build(docs, url, encoder=Counting()).close()
    with Corpus.build(docs, served(url), encoder=counting) as corpus:
        assert corpus.info().vectors["passages"] == 12


def test_what_the_server_searches_is_filled_by_one_at_a_time(docs, url, log, counting):
    Corpus.build(docs, url, encoder=counting).close()
    with psycopg.connect(log.database.address.conninfo) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s, hashtext('by meaning'))", (log.state().corpus,))
        build = threading.Thread(target=lambda: Corpus.build(docs, served(url), encoder=counting).close())
        build.start()
        build.join(1)
        assert build.is_alive()
    build.join()
    with Corpus.open(served(url), counting) as corpus:
        assert corpus.info().vectors["passages"] == 12


# Searched by the server


def test_the_server_finds_what_a_directory_finds_by_meaning(docs, url, tmp_path, counting):
    for turn in range(2):
        with (
            Corpus.build(docs, served(url), encoder=counting) as corpus,
            Corpus.build(docs, tmp_path / "c", encoder=counting) as local,
        ):
            for ours, theirs in zip(found(corpus, "meaning"), found(local, "meaning"), strict=True):
                assert [hit.passage for hit in ours] == [hit.passage for hit in theirs]
                assert [h.score for h in ours] == pytest.approx([h.score for h in theirs], abs=2e-3)
            assert corpus.info().vectors["passages"] == 12
            assert not (corpus.path / "catalogue.sqlite").exists()
        change(docs, turn)


def test_allowed_rows_are_told_as_ranges():
    for rows, told in (
        ([], "{}"),
        ([4], "{[4,5)}"),
        ([1, 2, 3, 9], "{[1,4),[9,10)}"),
        ([0, 2], "{[0,1),[2,3)}"),
    ):
        mask = np.zeros(12, bool)
        mask[rows] = True
        assert server_meaning._ranges(mask) == server_meaning._ranges(np.array(rows, np.int64)) == told


def test_equal_scores_of_the_server_are_in_the_order_of_rows(url, tmp_path, write_rows, counting):
    words = word_vectors.WORDS[:40]  # which are encoded alike wherever the title ends
    parts = [(" ".join(words[:at]), " ".join(words[at:])) for at in range(40)]
    rows = [{"id": number, "title": title, "text": text} for number, (title, text) in enumerate(parts)]
    with Corpus.build(write_rows(tmp_path / "a.jsonl", rows), served(url), encoder=counting) as corpus:
        for k in (1, 5, 20):  # of few a server keeps the order by itself
            found = [hit.passage.id for hit in corpus.search("w1", k, "meaning")]
            assert found == [str(number) for number in range(k)]


def test_the_server_searches_by_meaning_from_the_first_build_on(docs, own, counting):
    """Unasked, as a corpus of this size gets vectors."""
    with Corpus.build(docs, served(own), encoder=counting) as corpus:
        assert corpus.search(QUESTIONS[0], 1, "meaning")[0].passage.id == "03.md#1"


def test_the_server_mixes_by_ranks(docs, url, counting):
    with Corpus.build(docs, served(url), encoder=counting) as corpus:
        assert found(corpus, None) == found(corpus, "both")
        best, *_, last = corpus.explain("w3 w4 nothing", 12)
        assert best.words.rank == 1
        assert best.hit.score == pytest.approx(0.5 / 61 + 0.5 / (60 + best.meaning.rank))
        assert (last.words.rank, last.meaning.rank is not None) == (None, True)


def test_the_server_looks_among_what_a_filter_leaves(docs, url, tmp_path, counting):
    where = Filter(source=("01.md", "02.md", "05.md", "11.md"))
    with (
        Corpus.build(docs, served(url), encoder=counting) as corpus,
        Corpus.build(docs, tmp_path / "c", encoder=counting) as local,
    ):
        for ours, theirs in zip(found(corpus, "meaning", where), found(local, "meaning", where), strict=True):
            assert [hit.passage for hit in ours] == [hit.passage for hit in theirs]
            assert len(ours) == 4


def test_the_server_finds_vectors_that_replicas_made_before_and_after(docs, url, counting, monkeypatch):
    monkeypatch.setattr(server_meaning, "_FILLED_AT_ONCE", 5)
    Corpus.build(docs, url, encoder=counting).close()
    assert len(counting.encoded) == 12
    with Corpus.build(docs, served(url), encoder=counting) as corpus:
        assert len(counting.encoded) == corpus.info().vectors["passages"] == 12
        (docs / "more.md").write_text(word_vectors.text(50))
        Corpus.build(docs, url, encoder=counting).close()
        assert corpus.search(word_vectors.text(50), 1, "meaning")[0].passage.id == "more.md#1"


# What goes wrong


def test_another_encoder_than_the_corpus_has(docs, url, counting, caplog):
    Corpus.build(docs, served(url), encoder=counting).close()
    for other in (Counting("other"), Counting("words", 60)):
        with Corpus.open(served(url), other) as corpus:
            with pytest.raises(CorpusError, match=r"vectors of 'words' \(100 numbers.* but the encoder is"):
                corpus.search("w1", by="meaning")
            caplog.clear()
            assert corpus.search("w1") == corpus.search("w1", by="words")
            assert corpus.search("w1")
            assert [record.levelno for record in caplog.records] == [logging.WARNING]
            assert "it is searched by words" in caplog.text
    with Corpus.open(served(url)) as corpus:
        assert corpus.search("w1") == corpus.search("w1", by="words")
        with pytest.raises(CorpusError, match="no encoder was given"):
            corpus.search("w1", by="both")


@pytest.fixture
def own(server):
    """The URL of a database of the test's own, without pgvector."""
    name = f"db{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        yield server.replace("/postgres?", f"/{name}?")
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_server_without_pgvector(docs, own, counting, caplog):
    with psycopg.connect(own, autocommit=True) as connection:
        name = connection.execute("SELECT current_database()").fetchone()[0]
        connection.execute(f"ALTER DATABASE {name} SET extension_control_path = '/nowhere'")
    with pytest.raises(
        CorpusError, match=r"needs pgvector .* isn't installed there; .*CREATE EXTENSION vector"
    ):
        Corpus.build(docs, served(own), encoder=counting, vectors=True)
    assert not counting.encoded
    with Corpus.build(docs, served(own), encoder=counting) as corpus:  # a small one gets vectors if it can
        assert "isn't installed there" in caplog.text
        assert corpus.search("w1")
        with pytest.raises(CorpusError, match="doesn't search by meaning here yet; run `fidkit corpus build"):
            corpus.search("w1", by="meaning")
    with Corpus.open(own, counting) as replica:  # which needs no pgvector
        assert replica.search("w1", by="meaning")


def test_a_server_with_an_old_pgvector(docs, own, counting):
    with psycopg.connect(own, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("ALTER TYPE halfvec RENAME TO not_before_0_7")
    with pytest.raises(CorpusError, match=r"needs pgvector 0\.7 or newer, and has an older one"):
        Corpus.build(docs, served(own), encoder=counting, vectors=True)


def test_a_user_without_the_right_to_make_it_part_of_the_database(docs, own, counting):
    user = f"u{uuid.uuid4().hex}"
    Corpus.build(docs, served(own), encoder=counting, vectors=False).close()
    with psycopg.connect(own, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {user} LOGIN")
        connection.execute(f"GRANT USAGE ON SCHEMA fidkit TO {user}")
        connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA fidkit TO {user}")
        connection.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA fidkit TO {user}")
        theirs = served(own.replace("postgres:@", f"{user}:@"))
        try:
            with pytest.raises(
                CorpusError, match=r"permission denied.*have the owner .*CREATE EXTENSION vector"
            ):
                Corpus.build(docs, theirs, encoder=counting, vectors=True)
            Corpus.build(docs, served(own), encoder=counting, vectors=True).close()
            (docs / "more.md").write_text(word_vectors.text(50))
            with Corpus.build(
                docs, theirs, encoder=counting
            ) as corpus:  # who has rights on passages may go on
                assert corpus.search(word_vectors.text(50), 1, "meaning")[0].passage.id == "more.md#1"
        finally:
            connection.execute(f"DROP OWNED BY {user}")
            connection.execute(f"DROP ROLE {user}")


def test_a_database_from_before_there_were_vectors(docs, own, counting, monkeypatch, tmp_path):
    reader = f"u{uuid.uuid4().hex}"
    with monkeypatch.context() as before:
        before.setattr(schema, "_STEPS", schema._STEPS[:1])
        before.setattr(schema, "VERSION", 1)
        database = Database(address_of(own))
        database.run(lambda sql: schema.prepare(sql, database.address, make=True))
        database.close()
    with psycopg.connect(own, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {reader} LOGIN")
        connection.execute(f"GRANT USAGE ON SCHEMA fidkit TO {reader}")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA fidkit TO {reader}")
        try:
            Corpus.build(docs, own, encoder=counting).close()
            assert connection.execute("SELECT version FROM fidkit.schema_version").fetchone() == (
                schema.VERSION,
            )
            monkeypatch.setenv("FIDKIT_HOME", str(tmp_path / "another"))
            counting.encoded.clear()
            with Corpus.open(own.replace("postgres:@", f"{reader}:@"), counting) as replica:
                assert replica.search(QUESTIONS[0], 1, "meaning")[0].passage.id == "03.md#1"
            assert not counting.encoded  # who could read passages can read vectors
            Corpus.build(docs, served(own), encoder=counting).close()
            with Corpus.open(served(own.replace("postgres:@", f"{reader}:@")), counting) as by_server:
                assert by_server.search(QUESTIONS[0], 1, "meaning")[0].passage.id == "03.md#1"
        finally:
            connection.execute(f"DROP OWNED BY {reader}")
            connection.execute(f"DROP ROLE {reader}")
