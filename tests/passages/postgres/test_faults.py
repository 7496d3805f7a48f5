"""What goes wrong around a database: each is one line, says what to do, and never shows a password."""

import re
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from fidkit.cli.app import run
from fidkit.errors import CorpusError, UsageError
from fidkit.passages import Corpus
from fidkit.passages.load.record import Row
from fidkit.passages.opening import open_sources
from fidkit.passages.postgres import corpus as corpora
from fidkit.passages.postgres import database as databases
from fidkit.passages.postgres import schema
from fidkit.passages.postgres.address import address_of
from fidkit.passages.postgres.change import NewFile, files_of, rows_as_parts
from fidkit.passages.postgres.database import AwayError, Database
from fidkit.passages.postgres.log import Log
from fidkit.passages.postgres.server_catalogue import ServerCatalogue

SECRET = "s3cret%2Fword"


def secret_in(text):
    return "s3cret" in text


@pytest.fixture
def admin(server):
    with psycopg.connect(server, autocommit=True) as connection:
        yield connection


@pytest.fixture
def own(admin, server):
    """The URL of a database of the test's own."""
    name = f"db{uuid.uuid4().hex}"
    admin.execute(f"CREATE DATABASE {name}")
    yield server.replace("/postgres?", f"/{name}?")
    admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def away(url, tmp_path):
    """A URL whose server goes away and comes back, as its socket does; `leave` and `come`."""
    socket = url.split("host=")[1].split("&")[0]
    link = tmp_path / "s"
    link.symlink_to(socket)

    class Away:
        name = uuid.uuid4().hex
        there = f"{url.replace(socket, str(link))}&application_name={name}"

        def leave(self):
            link.unlink()
            with psycopg.connect(url.split("&corpus")[0], autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
                    (self.name,),
                )

        def come(self):
            link.symlink_to(socket)

    return Away()


def said(capsys, *arguments):
    """Exit code and the one line on stderr."""
    code = run([*map(str, arguments)])
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note:")]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert "Traceback" not in lines[0]
    assert not secret_in(lines[0])
    return code, lines[0]


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        (
            f"postgresql://u:{SECRET}@127.0.0.1:1/db",
            1,
            r"can't be reached \(.*refused.*\); check that the server",
        ),
        (f"postgresql://u:{SECRET}@nowhere.invalid/db", 1, "can't be reached"),
        (
            f"postgresql://u:{SECRET}@localhost:port/db",
            1,
            "can't be reached .*check that the server runs, and the host and port",
        ),
        (
            f"postgresql://u:{SECRET}@localhost/db?corps=x",
            2,
            "has an option 'corps', which neither PostgreSQL nor",
        ),
        (f"postgresql://u:{SECRET}@localhost/db?corpus=", 2, "the name of the corpus is ''"),
        (f"postgresql://u:{SECRET}@localhost/db?replica=some", 2, "replica is 'some'; expected none"),
        (f"mysql://u:{SECRET}@localhost/db", 2, "mysql://…: no engine is known for this; .*postgresql://"),
    ],
)
def test_urls_that_lead_nowhere(capsys, url, code, says):
    for command in (["corpus", "info", url], ["corpus", "search", url, "tea"], ["corpus", "check", url]):
        exit_code, line = said(capsys, *command)
        assert exit_code == code
        assert re.search(says, line), line


def test_a_url_that_leads_nowhere_to_ask_and_build(capsys, docs):
    url = f"postgresql://u:{SECRET}@127.0.0.1:1/db"
    for command in (["ask", "tea?", "--in", url], ["corpus", "build", docs, "--to", url]):
        code, line = said(capsys, *command)
        assert code == 1
        assert "can't be reached" in line


def test_a_database_that_is_not_there_and_one_without_a_corpus(capsys, server, own):
    code, line = said(capsys, "corpus", "info", server.replace("/postgres?", "/absent?"))
    assert code == 1
    assert "refuses" in line
    assert '"absent" does not exist' in line
    code, line = said(capsys, "corpus", "info", own)
    assert "this database has no corpus; run `fidkit corpus build SOURCE --to 'postgresql://" in line


def test_a_user_without_rights(capsys, admin, own, docs):
    user = f"u{uuid.uuid4().hex}"
    admin.execute(f"CREATE ROLE {user} LOGIN PASSWORD 's3cret'")
    try:
        theirs = own.replace("postgres:@", f"{user}:s3cret@")
        code, line = said(capsys, "corpus", "build", docs, "--to", theirs)
        assert code == 1
        assert "this user has no right to make tables" in line
        Corpus.build(docs, own).close()
        code, line = said(capsys, "corpus", "info", theirs)
        assert "the database refuses (permission denied" in line
        with psycopg.connect(own, autocommit=True) as connection:  # one who may read needs no more
            connection.execute(f"GRANT USAGE ON SCHEMA fidkit TO {user}")
            connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA fidkit TO {user}")
        with Corpus.open(theirs) as corpus:
            assert len(corpus) == 3
        code, line = said(capsys, "corpus", "build", docs, "--to", theirs)
        assert "the database refuses (permission denied" in line
    finally:
        with psycopg.connect(own, autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {user}")
        admin.execute(f"DROP ROLE {user}")


def test_a_newer_schema_is_refused(capsys, docs, own):
    Corpus.build(docs, own).close()
    with psycopg.connect(own) as connection:
        connection.execute("UPDATE fidkit.schema_version SET version = 99")
    code, line = said(capsys, "corpus", "info", own)
    assert (code, "has schema version 99, this fidkit knows up to" in line) == (1, True)


def test_an_older_schema_is_brought_up_to_date_or_said(capsys, docs, own, admin, monkeypatch):
    Corpus.build(docs, own).close()
    user = f"u{uuid.uuid4().hex}"
    admin.execute(f"CREATE ROLE {user} LOGIN")
    with psycopg.connect(own, autocommit=True) as connection:
        connection.execute(f"GRANT USAGE ON SCHEMA fidkit TO {user}")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA fidkit TO {user}")
    more = (*schema._STEPS, ("ALTER TABLE fidkit.corpora ADD COLUMN colour text",))
    monkeypatch.setattr(schema, "_STEPS", more)
    monkeypatch.setattr(schema, "VERSION", len(more))
    try:
        _, line = said(capsys, "corpus", "info", own.replace("postgres:@", f"{user}:@"))
        assert f"no right to change tables of schema version {len(more) - 1} to {len(more)}" in line
        with Corpus.open(own) as corpus:
            assert len(corpus) == 3
        with psycopg.connect(own) as connection:
            assert connection.execute("SELECT version FROM fidkit.schema_version").fetchone() == (len(more),)
            connection.execute("SELECT colour FROM fidkit.corpora")
            connection.execute(f"DROP OWNED BY {user}")
    finally:
        admin.execute(f"DROP ROLE {user}")


@pytest.mark.parametrize(("version", "says"), [(99, "reads up to"), (1, "build it under another name")])
def test_a_corpus_of_another_format(docs, own, version, says):
    Corpus.build(docs, own).close()
    with psycopg.connect(own) as connection:
        connection.execute("UPDATE fidkit.corpora SET format = %s", (version,))
    with pytest.raises(CorpusError, match=f"format version {version}, .*{says}"):
        Corpus.open(own)


def test_without_the_extra_the_command_is_named(tmp_path):
    script = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from fidkit.cli.app import run; sys.exit(run(['corpus', 'info', 'postgresql://u:s3cret@h/d']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install 'fidkit[postgres]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not secret_in(done.stderr)


def test_a_password_stays_out_of_what_is_shown():
    address = address_of(f"postgresql://u:{SECRET}@h:5/d?corpus=a b&sslmode=prefer&password=s3cret-2")
    assert address.shown == "postgresql://u@h:5/d?corpus=a%20b"
    assert not secret_in(repr(address) + address.shown)
    assert "…" in address.clean("bad s3cret-2 here")


def test_several_corpora_in_one_database(docs, server, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "tea.md").write_text("# Tea\n\nTea is grown in Kenya.\n")
    one, two = (f"{server}&corpus={uuid.uuid4().hex}" for _ in range(2))
    with Corpus.build(docs, one) as first, Corpus.build(tmp_path / "other", two) as second:
        assert (len(first), len(second)) == (3, 1)
        assert first.search("Kenya") == []
        assert second.search("Kenya")[0].passage.id == "tea.md#1"
    # Rows of both have the same numbers.
    with Corpus.build(docs, served(one)) as first, Corpus.build(tmp_path / "other", served(two)) as second:
        assert first.search("Kenya") == []
        assert [hit.passage.text for hit in second.search("tea comes")] == ["# Tea\n\nTea is grown in Kenya."]


# A server that is away


def test_a_replica_answers_while_the_server_is_away_and_says_so(docs, away):
    Corpus.build(docs, away.there).close()
    away.leave()
    corpus, notes = open_sources(away.there)
    with corpus:
        assert corpus.search("tea")[0].passage.id == "tea.md#1"
        [note] = notes
        assert "can't be reached" in note
        assert "answered from change 4" in note
        with pytest.raises(AwayError):
            corpus._replica.catch_up(patience=0.0)


def test_a_corpus_follows_through_an_outage(docs, away, caplog, monkeypatch):
    monkeypatch.setattr(corpora, "_LOOK_SECONDS", 0.05)
    caplog.set_level("INFO", "fidkit")
    with Corpus.build(docs, away.there) as corpus:
        looks, catch_up = [], corpus._replica.catch_up
        monkeypatch.setattr(corpus._replica, "catch_up", lambda **how: looks.append(1) or catch_up(**how))
        away.leave()
        until(lambda: "answers are of change 4" in caplog.text)
        assert corpus.search("tea")
        looks.clear()
        until(lambda: len(looks) > 3)
        with Corpus.open(away.there) as another:
            assert "can't be reached" in another.notes[0]
            away.come()
            until(lambda: another.notes == ())
        log = Log(Database(address_of(away.there)))
        log.put(log.state().corpus, NewFile("new", "/new", "passages"), rows_of_one)
        until(lambda: corpus.search("rooibos"))
        looks.clear()
        until(lambda: len(looks) > 3)
        log.database.close()
    # Once each, however often it is looked; the other one said so when it was opened.
    assert caplog.text.count("can't be reached") == 1
    assert caplog.text.count("caught up again") == 2


@pytest.fixture
def slow_to_connect(monkeypatch):
    """Connections of a pool come later than anybody waits, as on a machine with too much to do."""
    connect = ConnectionPool._connect

    def late(pool, timeout=None):
        time.sleep(3 * databases._LEAST_SECONDS)
        return connect(pool, timeout)

    monkeypatch.setattr(ConnectionPool, "_connect", late)


@pytest.mark.usefixtures("slow_to_connect")
def test_a_slow_moment_is_no_outage(docs, url, caplog, monkeypatch):
    monkeypatch.setattr(corpora, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(databases, "_GETTING_SECONDS", databases._LEAST_SECONDS)
    log = Log(Database(address_of(url)))
    assert log.database.run(lambda connection: connection.execute("SELECT 1").fetchone(), patience=0.0) == (
        1,
    )
    with Corpus.build(docs, url) as corpus:
        log.put(log.state().corpus, NewFile("new", "/new", "passages"), rows_of_one)
        until(lambda: corpus.search("rooibos"))
    log.database.close()
    assert "can't be reached" not in caplog.text


def test_a_pool_finds_a_server_that_was_away_for_long(away, monkeypatch):
    """By itself, it would wait longer and longer: 4 s by now."""
    monkeypatch.setattr(databases, "_POOL_TRIES_SECONDS", 0.2)
    database = Database(address_of(away.there))
    database.run(lambda connection: None)
    away.leave()
    deadline = time.monotonic() + 3.2
    while time.monotonic() < deadline:
        with pytest.raises(AwayError):
            database.run(lambda connection: None, patience=0.0)
    away.come()
    began = time.monotonic()
    pool = database._connections()
    pool.putconn(pool.getconn(10.0))
    assert time.monotonic() - began < 2.5
    database.close()


def test_a_server_with_too_many_connections_is_waited_for(own, admin):
    user = f"u{uuid.uuid4().hex}"
    admin.execute(f"CREATE ROLE {user} LOGIN CONNECTION LIMIT 1")
    theirs = address_of(own.replace("postgres:@", f"{user}:@"))
    try:
        with psycopg.connect(theirs.conninfo), pytest.raises(AwayError, match="too many connections"):
            Database(theirs, patience=0.2).run(lambda connection: None)
        one = Database(theirs)
        one.run(lambda connection: None)
        one.close()
    finally:
        admin.execute(f"DROP ROLE {user}")


def rows_of_one():
    return rows_as_parts([Row("new", "", "rooibos")])


def until(holds, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_change_that_lost_its_connection_is_made_once(url):
    database = Database(address_of(url))
    log = Log(database)
    corpus = log.open(make=True).corpus
    tries = []

    def work(change):
        tries.append(change)
        change.put(NewFile("a", "/a", "passages"), rows_of_one())
        if len(tries) < 3:
            change._sql.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    log.write(corpus, ["a"], work)
    assert (len(tries), log.state().passages, log.state().sequence) == (3, 1, 1)
    database.close()


@pytest.mark.parametrize("code", ["40P01", "40001"], ids=["deadlock", "serialization failure"])
def test_what_the_server_gives_up_for_others_is_done_again(url, code):
    database, tries = Database(address_of(url)), []

    def work(connection, gives_up=3):
        tries.append(connection)
        if len(tries) <= gives_up:
            connection.execute(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$")
        return connection.execute("SELECT 1").fetchone()

    assert (database.run(work), len(tries)) == ((1,), 4)
    with pytest.raises(psycopg.OperationalError):
        database.run(lambda connection: work(connection, 1000), patience=0.2)
    database.close()


@pytest.mark.parametrize("code", ["08006", "08P01", "57P01"])
def test_a_connection_that_the_server_or_a_pooler_gives_up_is_made_again(url, code):
    database, tries = Database(address_of(url)), []

    def work(connection, gives_up=2):
        tries.append(connection)
        if len(tries) <= gives_up:
            connection.execute(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$")
        return len(tries)

    assert database.run(work) == 3
    with pytest.raises(AwayError, match="can't be reached"):
        database.run(lambda connection: work(connection, 1000), patience=0.0)
    database.close()


def test_a_server_that_stays_away_in_the_middle_is_said(url, away):
    database = Database(address_of(away.there), patience=0.3)
    log = Log(database)
    corpus = log.open(make=True).corpus

    def work(change):
        away.leave()
        change.put(NewFile("a", "/a", "passages"), rows_of_one())

    with pytest.raises(AwayError, match="can't be reached"):
        log.write(corpus, ["a"], lambda change: work(change))
    database.close()
    assert Log(Database(address_of(url))).state().passages == 0


def test_check_finds_and_mends_a_replica(docs, url, capsys):
    with Corpus.build(docs, url) as corpus:
        replica = Path(corpus.path)
    assert run(["corpus", "check", url]) == 0
    (docs / "tea.md").unlink()  # as on another machine, which has no such folder
    assert run(["corpus", "check", url]) == 0
    assert "outdated" not in capsys.readouterr().out
    with sqlite3.connect(replica / "catalogue.sqlite") as catalogue:
        catalogue.execute("UPDATE passages SET text = 'changed' WHERE id = 'coffee.txt#1'")
    assert run(["corpus", "check", url]) == 1
    assert run(["corpus", "check", url]) == 1  # nothing is mended unasked
    assert "--repair" in capsys.readouterr().err
    assert run(["corpus", "check", url, "--repair"]) == 0
    assert run(["corpus", "check", url]) == 0
    with Corpus.open(url) as corpus:
        assert corpus.get(["coffee.txt#1"])[0].text == "Coffee comes from Ethiopia."


def test_a_replica_that_cannot_be_read_is_made_anew(docs, url):
    for spoil in (
        lambda path: shutil.rmtree(next(path.glob("lexical-*"))),
        lambda path: (path / "catalogue.sqlite").write_bytes(b"no database" * 999),
    ):
        with Corpus.build(docs, url) as corpus:
            path = Path(corpus.path)
        spoil(path)
        with Corpus.open(url) as corpus:
            assert corpus.search("tea")[0].passage.id == "tea.md#1"
            assert corpus.notes == ()


def test_a_url_is_asked_alone(docs, url):
    with pytest.raises(UsageError, match="asked alone"):
        open_sources([url, docs])


# Searched by the server


def served(url):
    return f"{url}&replica=none"


def test_the_server_searches_once_that_was_built(docs, own, capsys):
    Corpus.build(docs, own).close()
    code, line = said(capsys, "corpus", "search", served(own), "tea")
    assert (code, "doesn't search in this database yet" in line) == (1, True)
    Corpus.build(docs, served(own)).close()
    with Corpus.open(served(own)) as corpus:
        assert corpus.search("tea")[0].passage.id == "tea.md#1"


def test_the_server_searches_in_what_was_just_written(docs, url):
    with Corpus.build(docs, served(url)) as corpus:
        assert not corpus.path.exists()  # nothing is kept here
        log = Log(Database(address_of(url)))
        log.put(log.state().corpus, NewFile("new", "/new", "passages"), rows_of_one)
        assert corpus.search("rooibos")[0].passage.id == "new"
        log.remove(log.state().corpus, "new")
        assert corpus.search("rooibos") == []
        log.database.close()


def test_the_server_finds_a_passage_beside_files_that_have_none(docs, url):
    """They begin at the same row; which the server comes upon first depends on what was written last."""
    with Corpus.build(docs, served(url)) as corpus:
        log = Log(Database(address_of(url)))
        number = log.state().corpus
        for name in ("empty", "empty too"):
            log.put(number, NewFile(name, f"/{name}", "passages"), list)
        log.put(number, NewFile("new", "/new", "passages"), rows_of_one)
        files = {record.name: record for record in log.database.run(lambda sql: files_of(sql, number))}
        assert len({files[name].first_row for name in ("empty", "empty too", "new")}) == 1
        log.write(number, [], lambda change: change.move(files["empty too"]._replace(mtime_ns=1)))
        assert corpus.search("rooibos")[0].passage.id == "new"
        log.database.close()


def test_what_goes_while_the_server_is_asked_is_not_answered_with(docs, url, monkeypatch):
    with Corpus.build(docs, served(url)) as corpus:
        passages_if = ServerCatalogue.passages_if

        def later(self, name, rows):  # than it was searched, and than a file was taken out
            if (docs / "tea.md").exists():
                (docs / "tea.md").unlink()
                Corpus.build(docs, served(url)).close()
            return passages_if(self, name, rows)

        monkeypatch.setattr(ServerCatalogue, "passages_if", later)
        found = corpus.search("comes from")
        assert sorted(hit.passage.id for hit in found) == ["coffee.txt#1", "deep/cocoa.txt#1"]
        each = iter(corpus)
        assert next(each).id == "coffee.txt#1"
        (docs / "deep" / "cocoa.txt").write_text("Cocoa comes from Ghana.")
        Corpus.build(docs, served(url)).close()
        with pytest.raises(CorpusError, match=r"deep/cocoa\.txt was changed meanwhile; begin again"):
            next(each)


@pytest.mark.parametrize(
    "question",
    ['tea: "AND (', "tea & | !", "tea\x00tea", "\ud800 tea", "'tea' <-> \\", "tea http://x.org:8/?q='a&b:c"],
)
def test_odd_questions_are_only_words_to_the_server(docs, url, question):
    with Corpus.build(docs, served(url)) as corpus:
        assert corpus.search(question)[0].passage.id == "tea.md#1"
        assert corpus.search("?!") == []


def test_one_of_two_sources_that_is_empty_is_away(docs, url, tmp_path):
    share = tmp_path / "share"
    share.mkdir()
    (share / "milk.txt").write_text("Milk comes from cows.")
    with Corpus.build([docs, share], url) as corpus:
        (share / "milk.txt").unlink()
        with pytest.raises(CorpusError, match="share: holds nothing to read any more, and 1 file of it"):
            Corpus.build([docs, share], url)
        assert corpus.refresh().files_removed == 0
        assert len(corpus) == 4
        Corpus.build(docs, url).close()
        corpus.refresh()
        assert len(corpus) == 3
