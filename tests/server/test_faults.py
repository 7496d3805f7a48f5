"""What the server does when something under it breaks, or another comes in its place."""

import json
import shutil
import threading
import time
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

import anyio
import httpx
import mcp
import pytest

from fidkit import assets, precompute
from fidkit.errors import CorpusError, DataError
from fidkit.home import home
from fidkit.passages import Corpus
from fidkit.passages.local.away import AwayError
from fidkit.passages.local.layout import UnwritableError, default_location
from fidkit.reader import Reader
from fidkit.server import errors, library, renewal
from fidkit.server.limits import Limits
from fidkit.server.scheduler import OverloadedError
from fidkit.server.service import Question, _finished
from fidkit.server.told import of_indexing, without_places
from fidkit.types import Answer
from served import running
from sse import events

QUESTION = "who is the harbour master of Ringsend?"
ANSWER = "Aoife Brennan"


@pytest.fixture
def docs(folder, tmp_path):
    """Documents that may change."""
    return shutil.copytree(folder, tmp_path / "docs")


def guess(client):
    response = client.post("/v1/answer", json={"question": QUESTION, "passages": 3})
    assert response.status_code == 200, response.text
    return response.json()["guess"]


def until(holds, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


@contextmanager
def asking(client):
    """A client asks again and again meanwhile; gives the answers, and errors as they are."""
    seen, over = [], threading.Event()

    def ask():
        with httpx.Client(base_url=client.base_url, timeout=30) as own:
            while not over.is_set():
                try:
                    seen.append(guess(own))
                except Exception as error:
                    seen.append(repr(error))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@pytest.fixture
def soon(monkeypatch):
    """What is looked at now and then is looked at often."""
    monkeypatch.setattr(library, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(library, "_AGAIN_SECONDS", 0.1)


def add(client, name, text):
    assert client.post("/v1/documents", files={"files": (name, text.encode())}).status_code == 202


def keeper(client):
    asked = {"question": "who keeps the lighthouse of Skellan?", "passages": 3}
    return client.post("/v1/answer", json=asked).json().get("guess")


KEPT = "The lighthouse of Skellan is kept by {}."


def test_ask_and_serve_have_one_corpus_until_something_is_added(docs, soon):
    alone = default_location([docs])
    with running(docs) as client:
        assert client.service.corpus.path == alone
        with asking(client) as seen:
            with client.stream("GET", "/v1/documents/events") as response:
                add(client, "light.txt", KEPT.format("Nora Fahy"))
                told = takewhile(lambda event: event[0] != "indexed", events(response))
                read = {record["total_files"] for name, record in told if name == "progress"}
            assert read == {1}  # and none of the others again
            assert keeper(client) == "Nora Fahy"
            assert client.service.corpus.path != alone
            with Corpus.open(alone) as corpus:
                assert not corpus.search("Skellan")
            client.delete("/v1/documents/light.txt")
            until(lambda: client.service.corpus.path == alone)
            until(lambda: keeper(client) != "Nora Fahy")
        assert set(seen) == {ANSWER}


@pytest.mark.slow
def test_two_servers_of_one_folder_have_the_same_documents(docs, soon):
    with running(docs) as one, running(docs) as other:
        add(one, "light.txt", KEPT.format("Nora Fahy"))
        until(lambda: keeper(one) == keeper(other) == "Nora Fahy")
        (docs / "mill.txt").write_text(KEPT.format("nobody"))  # both look at all now
        time.sleep(2)
        assert keeper(one) == keeper(other) == "Nora Fahy"
        other.delete("/v1/documents/light.txt")
        until(lambda: "Nora Fahy" not in (keeper(one), keeper(other)))


def test_what_was_added_is_indexed_when_the_fault_is_mended(docs, soon, caplog):
    with running(docs) as client:
        place = default_location([docs, client.library.folder])
        place.write_text("in the way")
        add(client, "light.txt", KEPT.format("Nora Fahy"))
        until(lambda: str(place) in caplog.text)
        assert guess(client) == ANSWER
        [added] = client.get("/v1/documents").json()["added"]
        assert added["status"] == "waiting"
        place.unlink()
        until(lambda: keeper(client) == "Nora Fahy")


def test_a_folder_that_is_away_is_told_of_until_it_is_there_again(docs, soon, caplog):
    def told():
        [corpus] = client.get("/v1/corpora").json()
        return [note for note in corpus["notes"] if "is still served" in note]

    with running(docs) as client:
        assert told() == []
        docs.rename(docs.with_name("away"))
        until(told)
        assert told() == ["docs: could not be read; what was indexed before is still served"]
        assert "; what was indexed before is served meanwhile" in caplog.text
        assert guess(client) == ANSWER
        docs.with_name("away").rename(docs)
        until(lambda: not told())


def test_what_was_added_while_a_folder_was_away_stays(docs, soon):
    with running(docs) as client:
        docs.rename(docs.with_name("away"))
        with client.stream("GET", "/v1/documents/events") as response:
            add(client, "light.txt", KEPT.format("Nora Fahy"))
            assert any(name == "error" for name, _ in events(response))
        docs.with_name("away").rename(docs)
        until(lambda: keeper(client) == "Nora Fahy")
        (docs / "page.txt").write_text("The page is called Wim Holt.")
        until(lambda: client.get("/v1/documents").json()["total"] == 5)
        assert keeper(client) == "Nora Fahy"


def test_a_corpus_that_is_deleted_answers_until_another_is_there(docs, tmp_path, soon, caplog):
    Corpus.build(docs, tmp_path / "corpus").close()
    (docs / "light.txt").write_text(KEPT.format("Nora Fahy"))
    Corpus.build(docs, tmp_path / "other").close()
    with running(tmp_path / "corpus") as client, asking(client) as seen:
        until(lambda: len(seen) > 2)
        shutil.rmtree(tmp_path / "corpus")
        until(lambda: "was deleted while it is served" in caplog.text)
        asked = len(seen)
        until(lambda: len(seen) > asked + 2)
        (tmp_path / "other").rename(tmp_path / "corpus")
        until(lambda: keeper(client) == "Nora Fahy")
    assert set(seen) == {ANSWER}


def test_a_corpus_without_its_index_is_not_taken(docs, tmp_path):
    """It is found out before it is served, and not by those who ask."""
    Corpus.build(docs, tmp_path / "other").close()
    other = Corpus.open(tmp_path / "other")
    for folder in filter(Path.is_dir, (tmp_path / "other").iterdir()):
        shutil.rmtree(folder)
    with running(docs) as client:
        with pytest.raises(CorpusError):
            client.service.replace_corpus(other)
        assert guess(client) == ANSWER


def test_the_corpus_of_a_folder_that_is_deleted_is_built_again(docs, soon, tmp_path):
    statuses = []
    with running(docs) as client:
        # At once: while it is deleted, what is missing is built again already.
        shutil.rmtree(client.service.corpus.path.rename(tmp_path / "gone"))
        (docs / "light.txt").write_text(KEPT.format("Nora Fahy"))
        # Nobody had asked yet, so its index wasn't open.
        client.event_hooks = {
            "response": [lambda r: statuses.append((r.status_code, "retry-after" in r.headers))]
        }
        until(lambda: keeper(client) == "Nora Fahy")
        assert client.service.corpus.path.is_dir()
    assert set(statuses) <= {(200, False), (503, True)}


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A reader's directory, and another reader that may come in its place: the same without calibration."""
    made = shutil.copytree(assets.reader("pocket"), tmp_path / "reader")
    other = shutil.copytree(made, tmp_path / "other")
    (other / "calibration.json").unlink()
    monkeypatch.setattr(renewal, "_LOOK_SECONDS", 0.2)
    return made


def is_calibrated(client):
    return client.get("/v1/readers").json()["readers"][0]["calibrated"]


def test_another_reader_is_taken_up_without_a_failed_question(docs, reader):
    with running(docs, readers={"own": str(reader)}) as client:
        assert is_calibrated(client)
        with asking(client) as seen:
            until(lambda: len(seen) > 2)
            reader.rename(reader.with_name("before"))
            reader.with_name("other").rename(reader)
            until(lambda: not is_calibrated(client))
            asked = len(seen)
            until(lambda: len(seen) > asked + 2)
        assert set(seen) == {ANSWER}
        client.service.replace_reader("second", str(reader.with_name("before")))
        readers = [(one["name"], one["calibrated"]) for one in client.get("/v1/readers").json()["readers"]]
        assert readers == [("own", False), ("second", True)]


def none(_content):
    """What is no file of weights."""
    return b"none"


def huge(content):
    """Weights that can be read, and with which nothing can be computed."""
    begins = 8 + int.from_bytes(content[:8], "little")
    return content[:begins] + b"\x5e" * (len(content) - begins)


@pytest.mark.parametrize("harm", [none, huge])
def test_a_reader_that_can_t_be_read_is_not_taken_up(docs, reader, caplog, harm):
    other = reader.with_name("other")
    (other / "model.safetensors").write_bytes(harm((other / "model.safetensors").read_bytes()))
    with running(docs, readers={"own": str(reader)}) as client:
        reader.rename(reader.with_name("before"))
        other.rename(reader)
        until(lambda: "the one before goes on" in caplog.text)
        assert (guess(client), is_calibrated(client)) == (ANSWER, True)
        time.sleep(0.7)
        assert caplog.text.count("the one before goes on") == 1
        # And once it is mended:
        shutil.copy(reader.with_name("before") / "model.safetensors", reader / "mended")
        (reader / "mended").rename(reader / "model.safetensors")
        until(lambda: not is_calibrated(client))
        assert guess(client) == ANSWER


def corpus_notes(client):
    [corpus] = client.get("/v1/corpora").json()
    return corpus["notes"]


def test_a_memory_goes_along_when_documents_are_added(docs, soon):
    corpus = default_location([docs])
    Corpus.build(docs, corpus).close()
    with Corpus.open(corpus) as opened:
        precompute.build(opened, "pocket-lumen", precompute.Options())
    with running(docs, readers={"lumen": "pocket-lumen"}) as client:
        asked = {"question": "who keeps the lighthouse of Skellan?", "passages": 4}
        assert client.post("/v1/answer", json=asked).json()["notes"] == []
        add(client, "light.txt", KEPT.format("Nora Fahy"))
        until(lambda: client.service.corpus.path != corpus)
        # Only what is new is encoded for each question.
        [note] = client.post("/v1/answer", json=asked).json()["notes"]
        assert note == "1 of 4 passages have no stored memory and were encoded now"
        assert corpus_notes(client) == []


def test_a_memory_that_is_lacking_is_told_and_taken_up_once_it_is_there(docs, monkeypatch, caplog):
    monkeypatch.setattr(renewal, "_LOOK_SECONDS", 0.2)
    with running(docs, readers={"lumen": "pocket-lumen", "own": "pocket"}) as client:
        [note] = corpus_notes(client)
        assert note.startswith("reader lumen: no memory of these documents is stored")
        corpus = client.service.corpus.path
        assert f"`fidkit memory build {corpus} --reader pocket-lumen` stores it" in caplog.text
        with Corpus.open(corpus) as opened:
            precompute.build(opened, "pocket-lumen", precompute.Options())
        until(lambda: not corpus_notes(client))
        until(lambda: "a memory of the documents is stored, and used from now on" in caplog.text)
        assert guess(client) == ANSWER
        time.sleep(0.7)
        assert caplog.text.count("used from now on") == 1


def test_a_memory_is_used_by_the_reader_it_belongs_to_and_others_encode(docs, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(renewal, "_LOOK_SECONDS", 0.1)
    Reader.from_preset("tiny-lumen", seed=0).save_pretrained(tmp_path / "other")
    readers = {"own": "pocket-lumen", "other": str(tmp_path / "other")}
    corpus = default_location([docs])
    Corpus.build(docs, corpus).close()

    def remember(reader, **options):
        with Corpus.open(corpus) as opened:
            precompute.build(opened, reader, precompute.Options(**options))

    def who_encodes(client):
        told = "the memory of these documents is another reader's, so it encodes passages for each question"
        return [name for name in readers if f"reader {name}: {told}" in corpus_notes(client)]

    def ask_all(client):
        asked = {"question": QUESTION, "passages": 3}
        answers = [client.post("/v1/answer", json={**asked, "reader": name}) for name in readers]
        assert [(made.status_code, made.json()["reader"]) for made in answers] == [
            (200, name) for name in readers
        ]

    remember("pocket-lumen")
    with running(docs, readers=readers) as client:
        ask_all(client)
        assert who_encodes(client) == ["other"]
        assert client.service._answerers["own"].what.memory is not None
        again = f"`fidkit memory build {corpus} --reader {readers['other']} --replace` stores its own instead"
        assert again in caplog.text
        time.sleep(0.7)
        assert caplog.text.count("another reader's") == 1  # it isn't opened again and again
        remember(readers["other"], replace=True)
        until(lambda: who_encodes(client) == ["own"])
        ask_all(client)
        assert client.service._answerers["other"].what.memory is not None
        assert caplog.text.count("used from now on") == 1


def test_a_page_that_listens_doesn_t_keep_the_server(docs):
    with running(docs, limits=Limits(listening_seconds=0.5)) as client:
        begun, lines = threading.Event(), []

        def listen():
            with httpx.stream("GET", f"{client.base_url}/v1/documents/events", timeout=30) as response:
                for line in response.iter_lines():
                    lines.append(line)
                    begun.set()

        thread = threading.Thread(target=listen)
        thread.start()
        assert begun.wait(10)
        ending = time.monotonic()
    assert time.monotonic() - ending < 5
    thread.join()
    assert lines[0] == "retry: 500"  # and it ended as a response does, or `listen` had raised


@pytest.fixture
def whole(tmp_path):
    """Fails at a response that names a place of this machine."""
    places = [str(tmp_path), str(home())]

    def look(response):
        response.read()
        said = f"{response.text} {dict(response.headers)}"
        assert not any(place in said for place in places), said

    return look


def test_what_may_go_well_in_a_moment_says_when(caplog):
    """In the header, and in the body for events, which have none."""
    for error, code, seconds in (
        (CorpusError("/place: is away"), "away", 5),
        (OverloadedError("3 questions wait already", 1.2), "overloaded", 2),
    ):
        response = errors.of(error)
        told = json.loads(response.body)["error"]
        assert (response.status_code, response.headers["Retry-After"]) == (503, str(seconds))
        assert (told["code"], told["values"], "/" in told["message"]) == (
            code,
            {"retry_after": seconds},
            False,
        )
    assert "/place" in caplog.text


def test_a_fault_of_indexing_names_the_document(docs, tmp_path):
    facts = tmp_path / "facts.jsonl"
    facts.write_text(json.dumps({"id": "1", "title": "Tea", "text": "Tea is grown in Kenya."}) + "\n")
    with running(docs, facts) as client:
        with client.stream("GET", "/v1/documents/events", timeout=30) as response:
            heard = events(response)
            facts.write_text('{"id": "1", "title": "Tea"\n')
            record = next(record for name, record in heard if name == "error")
        assert record["message"].startswith("facts.jsonl, line 1: expected one JSON object")
        assert guess(client) == ANSWER


@pytest.mark.slow
def test_a_document_that_is_gone_is_told_by_its_name(docs, tmp_path, caplog):
    facts = tmp_path / "facts.txt"
    facts.write_text("Tea is grown in Kenya.")
    with running(docs, facts) as client:
        with client.stream("GET", "/v1/documents/events", timeout=30) as response:
            heard = events(response)
            facts.unlink()
            record = next(record for name, record in heard if name == "error")
        assert record["message"] == "facts.txt: could not be read; what was indexed before is still served"
        assert f"{facts}: no such file" in caplog.text
        assert guess(client) == ANSWER


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (UnwritableError("/place/x: the disk is full (0 MB free)"), "the server's disk is full"),
        (AwayError("/place/docs: holds nothing to read any more"), "docs: is away"),
        (
            CorpusError("/place/docs/a/b.txt: can't be read (Input/output error)"),
            "a/b.txt: could not be read",
        ),
        (DataError("a.jsonl, line 3: expected JSON"), "a.jsonl, line 3: expected JSON"),
        (DataError("/place/docs, line 3: no JSON"), "indexing failed, the server's log"),
        (CorpusError("a process can't be started (`/usr/bin/python`)"), "indexing failed, the server's log"),
        (CorpusError("/place/docs2/a.txt: can't be read"), "indexing failed, the server's log"),
    ],
)
def test_what_is_told_of_indexing(error, says):
    told = of_indexing(error, ["/place/docs", "/place/added"])
    assert told.startswith(says)
    assert told.endswith("; what was indexed before is still served")
    assert "/place" not in told


@pytest.mark.parametrize(
    ("note", "told"),
    [
        ("2 of 3 files were left out (a: 1; b: 1); `fidkit corpus info /home/x` lists them",
         ["2 of 3 files were left out (a: 1; b: 1)"]),
        ("postgresql://host/db?corpus=x: can't be reached; this is answered from change 5",
         ["this is answered from change 5"]),
        ("/home/x: the disk is full", []),
        ("and/or is no path", ["and/or is no path"]),
    ],
)  # fmt: skip
def test_notes_name_no_place(note, told):
    assert without_places([note]) == told


def test_an_answer_s_notes_name_no_place():
    note = "2 of 3 passages have no stored memory and were encoded now; `fidkit memory build /x` stores it"
    answer = Answer("tea", 0.0, timings_ms={"total": 1.0}, notes=(note,))
    made = _finished(answer, Question("what is grown?"), 0.0, None, [], None)
    assert made.notes == ("2 of 3 passages have no stored memory and were encoded now",)


def test_no_response_names_a_place(docs, tmp_path, whole):
    canvas = pytest.importorskip("reportlab.pdfgen.canvas")
    drawn = canvas.Canvas(str(docs / "ferry.pdf"))
    drawn.drawString(72, 700, "The ferry to Inishmaan is captained by Peig Conroy.")
    drawn.save()
    (docs / "broken.pdf").write_bytes(b"%PDF-1.7 nothing of it")
    (docs / "broken.docx").write_bytes(b"PK\x03\x04 nothing of it")
    with running(docs) as client:
        client.event_hooks = {"response": [whole]}
        for path in ("/v1/documents", "/v1/corpora", "/v1/readers", "/openapi.json", "/metrics", "/readyz"):
            assert client.get(path).status_code == 200
        assert client.get("/v1/corpora").json()[0]["notes"] == [
            "2 of 6 files were left out (expected a Word document, but File is not a zip file: 1; "
            "a PDF that is damaged or cut off: 1)"
        ]
    Corpus.build(docs, tmp_path / "corpus").close()
    with running(tmp_path / "corpus") as client:
        client.event_hooks = {"response": [whole]}
        (docs / "ferry.pdf").write_bytes(b"another")
        assert "its file was written to since" in client.get("/v1/pages/ferry.pdf:4-20").text
        for source in ("ferry.pdf:4-20", "harbour.txt:0-5", "nothing.txt:0-5", "broken.pdf:0-5"):
            client.get(f"/v1/passages/{source}")
        client.get("/v1/pages/broken.pdf:0-5")
        (docs / "ferry.pdf").unlink()
        assert "its file can't be read" in client.get("/v1/pages/ferry.pdf:4-20").text
        for request in ({"where": ["kind=odt"]}, {"where": ["source=/etc/*"]}, {"reader": "/etc/passwd"}):
            client.post("/v1/search", json={"question": "a", **request})
            client.post("/v1/answer", json={"question": "a", **request})
        client.delete("/v1/documents/../../a")

        async def call():
            async with mcp.Client(f"{client.base_url}/mcp/") as session:
                return [
                    await session.call_tool("search", {"question": "tea", "where": ["kind=odt"]}),
                    await session.call_tool("answer", {"question": "tea", "where": ["kind=odt"]}),
                    await session.call_tool("read", {"source": "nothing.txt"}),
                ]

        for result in anyio.run(call):
            assert result.is_error
            assert str(tmp_path) not in result.content[0].text
            assert str(home()) not in result.content[0].text
