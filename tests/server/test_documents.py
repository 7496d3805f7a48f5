"""Documents: added, watched, removed, shown; and what a caller can't reach by them."""

import errno
import io
import re
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import pytest

from fidkit.errors import CorpusError
from fidkit.home import home
from fidkit.passages import Corpus
from fidkit.passages.local.away import AwayError
from fidkit.server.errors import RequestError
from fidkit.server.library import Library, file_name
from fidkit.server.pictures import _Drawing
from served import running


@pytest.fixture(scope="module")
def own(tmp_path_factory, folder):
    """A server whose documents may change."""
    copied = tmp_path_factory.mktemp("own") / "documents"
    shutil.copytree(folder, copied)
    with running(copied) as client:
        client.folder = copied
        yield client


FORM = {"Content-Type": "multipart/form-data"}


def until(holds, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def guess(client, question):
    return client.post("/v1/answer", json={"question": question, "passages": 3}).json()["guess"]


def added(client):
    return {
        one["name"]: (one["status"], one["reason"]) for one in client.get("/v1/documents").json()["added"]
    }


def add(client, name, content):
    response = client.post("/v1/documents", files={"files": (name, content)})
    assert response.status_code == 202, response.text
    return response.json()["names"]


def test_what_is_served(client):
    found = client.get("/v1/documents").json()
    assert [(d["name"], d["status"]) for d in found["documents"]] == [
        ("harbour.txt", "indexed"), ("mill.txt", "indexed"), ("tea.md", "indexed"),
    ]  # fmt: skip
    assert found["total"] == 3
    [one] = client.get("/v1/documents?limit=1&offset=1").json()["documents"]
    assert one["name"] == "mill.txt"
    assert client.get("/v1/documents?limit=1001").status_code == 422
    [corpus] = client.get("/v1/corpora").json()
    assert (corpus["name"], corpus["passages"]) == ("documents", 3)


def test_a_document_is_added_found_replaced_and_removed(own):
    question = "who keeps the lighthouse of Skellan?"
    assert add(own, "light.txt", b"The lighthouse of Skellan is kept by Nora Fahy.") == ["light.txt"]
    until(lambda: added(own).get("light.txt") == ("indexed", ""))
    assert guess(own, question) == "Nora Fahy"
    add(own, "light.txt", b"The lighthouse of Skellan is kept by Una Breen.")
    until(lambda: guess(own, question) == "Una Breen")
    assert own.delete("/v1/documents/light.txt").status_code == 202
    until(lambda: guess(own, question) != "Una Breen")
    assert added(own) == {}


def test_what_changes_in_a_folder_is_taken_up(own):
    (own.folder / "bridge.txt").write_text("The bridge at Corra was designed by Ida Voss.")
    until(lambda: guess(own, "who designed the bridge at Corra?") == "Ida Voss")
    (own.folder / "bridge.txt").unlink()
    until(lambda: guess(own, "who designed the bridge at Corra?") != "Ida Voss")


def test_the_end_of_a_server_does_not_wait_for_a_build(tmp_path):
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "first.txt").write_text("The first of them.")
    told, begun = [], threading.Event()
    with running(folder) as client:
        ended = client.library._stop

        def say(event):
            if event["event"] == "progress":
                told.append(ended.is_set())
                begun.set()
                ended.wait(20)

        client.library._say = say
        for number in range(30):
            (folder / f"{number}.txt").write_text(f"Number {number} of them.")
        assert begun.wait(20)
    assert told == [False]  # and nothing behind that
    with running(folder) as client:
        assert client.get("/v1/documents").json()["total"] == 31


def test_what_can_t_be_read_says_why(own):
    add(own, "broken.pdf", b"%PDF-1.7 nothing of it")
    status, reason = until(lambda: (found := added(own)["broken.pdf"])[0] != "waiting" and found)
    assert status == "left out"
    assert "PDF" in reason
    own.delete("/v1/documents/broken.pdf")
    add(own, "empty.txt", b"")
    until(lambda: added(own)["empty.txt"] == ("left out", "empty"))
    listed = {one["name"]: one["status"] for one in own.get("/v1/documents").json()["documents"]}
    assert listed["empty.txt"] == "left out"
    own.delete("/v1/documents/empty.txt")


def test_a_file_that_holds_no_text_is_left_out_wherever_files_are_counted(tmp_path):
    """Whether it was read, as the empty text and the empty archive, or not, as the picture."""
    import zipfile

    (tmp_path / "tea.txt").write_text("Tea is grown in Kenya.")
    (tmp_path / "picture.png").touch()
    (tmp_path / "empty.txt").touch()
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()
    why = {
        "empty.txt": "empty",
        "empty.zip": "holds no text",
        "picture.png": "not a kind of file that is read",
    }
    with running(tmp_path) as client:
        documents, [corpus] = (client.get(f"/v1/{of}").json() for of in ("documents", "corpora"))
        add(client, "empty.zip", (tmp_path / "empty.zip").read_bytes())
        until(lambda: added(client) == {"empty.zip": ("left out", "holds no text")})
    listed = {one["name"]: (one["status"], one["reason"]) for one in documents["documents"]}
    assert listed == {"tea.txt": ("indexed", "")} | {name: ("left out", why[name]) for name in why}
    assert dict(corpus["left_out"]) == why
    assert corpus["files"] == documents["total"] - len(why) == 1
    assert {kind: of["files"] for kind, of in corpus["kinds"].items()} == {".txt": 1}


def test_a_file_that_there_is_no_room_for_leaves_nothing():
    class Full(io.BytesIO):
        def read(self, _size):
            raise OSError(errno.ENOSPC, "No space left on device")

    library = Library([])
    try:
        before = set(library.folder.parent.iterdir())
        with pytest.raises(RequestError, match="No space left on device") as refused:
            library.add("a.txt", Full())
        assert refused.value.status == 507
        assert set(library.folder.parent.iterdir()) == before
        assert list(library.folder.iterdir()) == []
        library.folder.parent.rename(library.folder.parent.with_name("away"))
        with pytest.raises(RequestError, match="No such file") as refused:
            library.add("a.txt", io.BytesIO(b"a"))
        assert refused.value.status == 507
    finally:
        library.corpus.close()


def test_where_things_lie_is_settled_at_the_start(folder, tmp_path, monkeypatch):
    """Behind a link too, which the corpus names by where it leads."""
    (tmp_path / "link").symlink_to(home())
    monkeypatch.setenv("FIDKIT_HOME", str(tmp_path / "link"))
    with running(folder / "tea.md") as client:
        add(client, "first.txt", b"The first of them.")
        until(lambda: added(client).get("first.txt") == ("indexed", ""))
        monkeypatch.setenv("FIDKIT_HOME", str(tmp_path / "elsewhere"))
        add(client, "second.txt", b"The second of them.")
        until(lambda: added(client).get("second.txt") == ("indexed", ""))
    assert not (tmp_path / "elsewhere" / "corpora").exists()


def test_what_was_taken_out_is_not_said_to_be_away(tmp_path, caplog):
    (tmp_path / "own.txt").write_text("Something of one's own.")
    library = Library([str(tmp_path / "own.txt")])
    said = []
    library._say = said.append
    try:
        library.add("a.txt", io.BytesIO(b"a"))
        library._say_fault(AwayError("gone"), "index")
        library.remove("a.txt")
        library._say_fault(AwayError("gone"), "index")
        library._say_fault(CorpusError("full"), "index")
        assert [one["event"] for one in said] == ["error", "error"]
        assert re.findall("gone|full", caplog.text) == ["gone", "full"]
    finally:
        library.corpus.close()


def test_a_listener_that_takes_nothing_is_no_fault():
    library = Library([])
    try:
        queue = library.listen()
        for n in range(queue.maxsize + 1):
            library._tell({"event": n})
        assert queue.get_nowait() == {"event": 0}
    finally:
        library.corpus.close()


def test_what_is_taken_out_meanwhile_is_no_fault(own):
    """Adding and removing, beside removing and looking, by several callers."""

    def change(n):
        add(own, f"gone-{n % 2}.txt", b"Soon gone.")
        seen = own.get("/v1/documents").status_code
        return own.delete(f"/v1/documents/gone-{n % 2}.txt").status_code in (202, 404) and seen == 200

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(change, range(120)))
    for n in range(2):
        own.delete(f"/v1/documents/gone-{n}.txt")


def test_markup_of_documents_is_none_in_a_list_of_sources(own):
    name = "<img src=x>*a*.txt"
    add(own, name, b"The <b>mast</b> of the [Gull](x) is kept by Una Reid.")
    until(lambda: added(own)[name] == ("indexed", ""))
    messages = [{"role": "user", "content": "who keeps the mast of the Gull?"}]
    done = own.post("/v1/chat/completions", json={"model": "pocket:sources", "messages": messages}).json()
    text = done["choices"][0]["message"]["content"]
    assert "mast" in text
    assert not re.search(r"(?<!\\)[<>*]", text)
    own.delete(f"/v1/documents/{quote(name)}")


def test_of_several_files_those_that_can_t_be_taken_are_named(own):
    files = [("files", (name, b"Some text.")) for name in ("p1.txt", "program.exe", "p3.txt")]
    response = own.post("/v1/documents", files=files)
    assert response.status_code == 202
    taken = response.json()
    assert taken["names"] == ["p1.txt", "p3.txt"]
    assert [one["name"] for one in taken["refused"]] == ["program.exe"]
    assert taken["refused"][0]["reason"].startswith("program.exe: .exe isn't read")
    assert taken["refused"][0]["code"] == "unsupported"
    assert taken["message"] == "2 files taken, read in a moment; 1 not: program.exe"
    until(
        lambda: (
            {"p1.txt", "p3.txt"} <= {name for name, (status, _) in added(own).items() if status == "indexed"}
        )
    )
    none = own.post("/v1/documents", files=files[1:2])
    assert (none.status_code, none.json()["error"]["param"]) == (415, "name")
    for sent, says in (
        ({"data": {"files": "abc"}}, "the body is no form with files; send files as `curl -F"),
        (
            {"files": {"files": (None, "abc")}},
            "files.0: expected a file with a name, got a text; /api describes",
        ),
        ({"content": b"", "headers": FORM}, "a form: Missing boundary in multipart; send files as `curl -F"),
        (
            {"files": [("files", (f"{n}.txt", b"")) for n in range(1001)]},
            "Maximum number of files is 1000; send",
        ),
    ):
        error = own.post("/v1/documents", **sent).json()["error"]
        assert says in error["message"]
    nothing = own.post("/v1/documents", files={"other": b""})
    assert (nothing.status_code, nothing.json()["error"]["param"]) == (422, "files")
    for name in taken["names"]:
        own.delete(f"/v1/documents/{name}")


def test_of_two_files_of_one_name_none_is_lost_in_silence(own):
    sent = [("files", (name, b"Some text.")) for name in ("one/a.txt", "two/a.txt", "b.txt")]
    taken = own.post("/v1/documents", files=sent).json()
    assert taken["names"] == ["a.txt", "b.txt"]
    [refused] = taken["refused"]
    assert (refused["name"], refused["code"]) == ("two/a.txt", "conflict")
    assert refused["reason"] == "a.txt: another file of this request has that name; give it another"
    for name in taken["names"]:
        own.delete(f"/v1/documents/{name}")
    until(lambda: added(own) == {})


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", None])
def test_what_is_no_form_with_files_is_told_how_to_send_them(own, kind):
    headers = {"Content-Type": kind} if kind else {}
    response = own.post("/v1/documents", content=b'{"files": ["a.txt"]}', headers=headers)
    assert response.status_code == 422
    assert response.json()["error"]["message"] == (
        "the body is no form with files; send files as `curl -F files=@FILE` does"
    )


def test_where_none_of_several_files_is_taken_all_are_named(own):
    names = ["a.exe", ".hidden", *(f"n{n}.bin" for n in range(20))]
    error = own.post("/v1/documents", files=[("files", (name, b"x")) for name in names])
    assert error.status_code == 422  # for one has no name, and the others are of a kind that isn't read
    told = error.json()["error"]
    named = ", ".join(names[:20])
    assert (
        told["message"] == f"none of the 22 files was taken: {named} and 2 more; `refused` says why of each"
    )
    assert [(one["name"], one["code"]) for one in told["refused"]] == [
        (name, "invalid" if name == ".hidden" else "unsupported") for name in names
    ]
    assert told["refused"][0]["reason"].startswith("a.exe: .exe isn't read")
    assert added(own) == {}


def test_indexing_does_not_get_in_its_own_way(own, caplog):
    """What is added is indexed by one thread, what changes in a folder by another."""
    for number in range(6):
        add(own, f"many{number}.txt", b"Some text.")
        (own.folder / f"more{number}.txt").write_text("More of it.")
        time.sleep(0.05)
    until(lambda: sum(status == "indexed" for status, _ in added(own).values()) == 6)
    until(lambda: own.get("/v1/documents").json()["total"] == 3 + 12)
    assert "another process is building" not in caplog.text
    for number in range(6):
        own.delete(f"/v1/documents/many{number}.txt")
        (own.folder / f"more{number}.txt").unlink()
    until(lambda: own.get("/v1/documents").json()["total"] == 3)


def test_what_an_archive_left_out_is_told(own):
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("program.exe", b"MZ")
    add(own, "packed.zip", out.getvalue())
    status, reason = until(lambda: (found := added(own)["packed.zip"])[0] != "waiting" and found)
    assert (status, ".exe" in reason or "program" in reason or "left out" in reason) == ("left out", True), (
        reason
    )
    [served] = [d for d in own.get("/v1/documents").json()["documents"] if d["name"] == "packed.zip"]
    assert (served["status"], served["reason"]) == ("left out", reason)
    own.delete("/v1/documents/packed.zip")


def test_a_name_that_can_t_be_printed_is_found_again(own):
    name = "\u202egnp\u200d.txt"
    add(own, name, b"Some text.")
    until(lambda: added(own).get(name) == ("indexed", ""))
    assert own.delete(f"/v1/documents/{quote(name)}").status_code == 202
    until(lambda: name not in added(own))


def test_a_file_that_isn_t_what_its_name_says(own):
    for name, content in (("really-a-pdf.txt", b"%PDF-1.4 1 0 obj"), ("really.md", b"{\\rtf1 hello}")):
        add(own, name, content)
        status, reason = until(lambda name=name: (found := added(own)[name])[0] != "waiting" and found)
        assert status == "left out"
        assert "not text" in reason
        own.delete(f"/v1/documents/{name}")


def test_indexing_tells_how_it_goes(own):
    with own.stream("GET", "/v1/documents/events") as response:
        lines = response.iter_lines()
        add(own, "event.txt", b"Something happened.")
        assert next(line for line in lines if line.startswith("event: "))
        assert any(line == "event: indexed" for line in lines)
    own.delete("/v1/documents/event.txt")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a.txt", "a.txt"), ("../../etc/a.txt", "a.txt"), ("C:\\docs\\b.md", "b.md"), (" a.txt ", "a.txt"),
        ("über uns.TXT", "über uns.TXT"),
    ],
)  # fmt: skip
def test_names_lose_their_paths(given, kept):
    assert file_name(given) == kept


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("", 422), (".", 422), ("..", 422), ("a/..", 422), (".hidden.txt", 422), ("a\nb.txt", 422),
        ("a\x00.txt", 422), ("\ud800.txt", 422), ("x" * 200 + ".txt", 422), ("a.exe", 415), ("txt", 415),
    ],
)  # fmt: skip
def test_names_that_are_none(name, status):
    with pytest.raises(RequestError) as refused:
        file_name(name)
    assert refused.value.status == status


def test_nothing_is_written_or_removed_elsewhere(own):
    outside = own.folder / "harbour.txt"
    for name in ("harbour.txt", "../harbour.txt", "..%2f..%2fharbour.txt", str(outside)):
        assert own.delete(f"/v1/documents/{name}").status_code in (404, 405)
    assert outside.exists()
    assert add(own, "../../harbour2.txt", b"Elsewhere.") == ["harbour2.txt"]
    assert not (own.folder.parent / "harbour2.txt").exists()
    own.delete("/v1/documents/harbour2.txt")


@pytest.mark.parametrize(
    "source",
    ["nothing.txt", "../../etc/passwd", "/etc/passwd", "harbour.txt:5-4", "harbour.txt:0-9999", "%00"],
)
def test_no_such_passage(client, source):
    for kind in ("passages", "pages"):
        response = client.get(f"/v1/{kind}/{source}")
        assert response.status_code in (404, 422)
        assert "/tmp" not in response.text
        assert "root:" not in response.text


def test_a_passage_in_its_surroundings(client):
    found = client.get("/v1/passages/harbour.txt:34-47").json()
    assert (found["before"], found["text"]) == ("The harbour master of Ringsend is ", "Aoife Brennan")
    assert "file" not in found


def test_the_page_of_a_pdf(tmp_path, monkeypatch):
    canvas = pytest.importorskip("reportlab.pdfgen.canvas")
    drawn = canvas.Canvas(str(tmp_path / "ferry.pdf"))
    drawn.drawString(72, 700, "The ferry to Inishmaan is captained by Peig Conroy.")
    drawn.save()
    with running(tmp_path) as client:
        answer = client.post("/v1/answer", json={"question": "who captains the ferry to Inishmaan?"}).json()
        first = answer["evidence"][0]
        assert (answer["guess"], first["where"]) == ("Peig Conroy", {"page": "1"})
        start, end = first["span"]
        page = client.get(f"/v1/pages/ferry.pdf:{start}-{end}")
        assert page.headers["content-type"] == "image/png"
        assert page.content.startswith(b"\x89PNG")
        with monkeypatch.context() as patched:
            patched.setattr(_Drawing, "picture", None)
            kept = client.get(f"/v1/pages/ferry.pdf:{start}-{end}")
        assert (kept.status_code, kept.content) == (200, page.content)
        drawn = canvas.Canvas(str(tmp_path / "ferry.pdf"))
        drawn.drawString(72, 500, "The ferry to Inishmaan was sold to Bran Daly in the spring of 1931.")
        drawn.save()
        until(lambda: guess(client, "who was the ferry to Inishmaan sold to?") == "Bran Daly")
        assert client.get(f"/v1/pages/ferry.pdf:{start}-{end}").content != page.content


def test_pages_are_not_drawn_for_those_who_left(tmp_path, monkeypatch):
    canvas = pytest.importorskip("reportlab.pdfgen.canvas")
    drawn = canvas.Canvas(str(tmp_path / "ferry.pdf"))
    drawn.drawString(72, 700, "The ferry to Inishmaan is captained by Peig Conroy.")
    drawn.save()
    begun = []

    class Kept(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            begun.append(self)

    def running_now():
        return [process for process in begun if process.poll() is None]

    with running(tmp_path) as client:
        monkeypatch.setattr(subprocess, "Popen", Kept)
        for n in range(8):
            with httpx.Client(base_url=client.base_url) as leaving, pytest.raises(httpx.TimeoutException):
                leaving.get(f"/v1/pages/ferry.pdf:{n}-20", timeout=0.1)
            assert len(running_now()) <= 2
        until(lambda: not running_now(), 1.0)
        assert {process.returncode for process in begun} == {-signal.SIGKILL}
        with ThreadPoolExecutor(8) as pool:
            paths = [f"/v1/pages/ferry.pdf:{n}-20" for n in range(4)]
            pages = [pool.submit(client.get, path) for path in paths]
            while not all(page.done() for page in pages):
                assert len(running_now()) <= 2
                time.sleep(0.01)
        assert all(page.result().content.startswith(b"\x89PNG") for page in pages)
        text = tmp_path / "text.txt"
        text.write_text("No page.")
        until(lambda: client.get("/v1/documents").json()["total"] == 2)
        assert client.get("/v1/pages/text.txt:0-2").status_code == 404


def test_a_built_corpus_is_served_as_it_is(folder, tmp_path):
    Corpus.build(folder, tmp_path / "corpus").close()
    with running(tmp_path / "corpus") as client:
        assert guess(client, "where is tea grown?") == "Kenya"
        refused = client.post("/v1/documents", files={"files": ("a.txt", b"a")})
        assert (refused.status_code, client.get("/v1/documents").json()["can_add"]) == (409, False)
        several = client.post("/v1/documents", files=[("files", (f"{n}.txt", b"a")) for n in range(2)])
        assert "built before is served as it is" in several.json()["error"]["message"]
        listed = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        tools = client.post("/mcp/", json=listed, headers={"Accept": "application/json"}).json()
        assert {tool["name"] for tool in tools["result"]["tools"]} == {"answer", "search", "read"}


def test_a_corpus_that_is_replaced_is_closed_behind_the_last_who_uses_it(folder, tmp_path):
    with running(folder) as client:
        with client.service.opened_corpus() as before:
            client.service.replace_corpus(Corpus.build(folder / "tea.md", tmp_path / "corpus"))
            assert before.search("harbour", 1)
            assert client.get("/v1/documents").json()["total"] == 1
        with pytest.raises(Exception, match="closed"):
            before.search("harbour", 1)


def test_without_documents_those_that_are_added_are_served_alone():
    library = Library([])
    try:
        assert library.corpus.search("layer-sparse cross-attention")
        assert library._all() == []
        library.add("own.txt", io.BytesIO(b"Something of one's own."))
        assert library._all() == [str(library.folder)]
    finally:
        library.corpus.close()
