"""Documents in an object store: found, fetched and kept up with as those of a folder are."""

import http.client
import json
import os
import re
import shutil
import socket
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fidkit.cli.app import run
from fidkit.errors import CorpusError, DataError, UsageError
from fidkit.passages import Corpus, Filter
from fidkit.passages.load import fetched, keys, objects
from fidkit.passages.load.address import ObjectAddress, absolute, source_of
from fidkit.passages.load.found import TOO_LARGE, SourceFile
from fidkit.passages.load.sources import discover
from fidkit.passages.local.check import check
from fidkit.passages.local.layout import default_location
from fidkit.passages.local.watch import follow
from fidkit.passages.opening import open_sources
from s3_server import Bucket

CHARACTERS = "a b+c&d=e%20f#g?h;i@j,k~l'm[n]{o}^p`q|r\\s*t\"u<v>w é日.txt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of several kinds in several folders."""
    folder = tmp_path / "in"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "a").mkdir()
    (folder / "tea.md").write_text("# Tea\n\nTea comes from China.\n\n## Brewing\n\nUse hot water.\n")
    (folder / "deep" / "er" / "cocoa.txt").write_text("Cocoa comes from the Amazon.")
    (folder / "deep" / "coffee.csv").write_text("Sort,Origin\nArabica,Ethiopia\nRobusta,Congo\n")
    (folder / CHARACTERS).write_text("Odd names are names.")
    (folder / "a" / "picture.png").write_bytes(b"x")
    with zipfile.ZipFile(folder / "more.zip", "w") as out:
        out.writestr("in it.txt", "Mate comes from Paraguay.")
    rows = [{"id": str(n), "title": "Maté", "text": f"Leaf {n} is dried."} for n in range(3)]
    (folder / "a" / "leaves.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "a" / "README.txt").write_text("What the rows are.")
    (folder / "a" / "log.jsonl").write_text('{"event": 1}\n')
    return folder


def rows_of(corpus: Corpus) -> list[tuple[object, ...]]:
    return [tuple(row) for row in corpus._catalogue._sql.execute(
        "SELECT row, id, title, text, start, end, document FROM passages ORDER BY row")]  # fmt: skip


def gets(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys that are downloaded from now on."""
    asked: list[str] = []
    got = objects._got
    monkeypatch.setattr(objects, "_got", lambda address: (asked.append(address.key), got(address))[1])
    return asked


def test_the_corpus_of_a_prefix_is_that_of_the_folder(bucket: Bucket, folder: Path, tmp_path: Path) -> None:
    bucket.put({"p-other/no.txt": "Not below the prefix."})
    with (
        Corpus.build(folder, tmp_path / "local") as local,
        Corpus.build(bucket.upload(folder, "p"), tmp_path / "stored") as stored,
    ):
        assert rows_of(stored) == rows_of(local)
        assert stored.fingerprint == local.fingerprint
        assert stored.info().skipped_files == local.info().skipped_files
        assert stored.info().sources == [bucket.url("p")]
        [hit] = stored.search("Paraguay", k=1)
        assert hit.passage.id == "more.zip/in it.txt#1"
        assert stored.place("tea.md", (30, 40)).labels() == local.place("tea.md", (30, 40)).labels()
        [hit] = stored.search("comes from", where=Filter(source="deep/*"))
        assert hit.passage.id == "deep/er/cocoa.txt#1"
        assert CHARACTERS in {record.name for record in stored._catalogue.files()}


def test_only_what_changed_is_downloaded(
    bucket: Bucket, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, to = bucket.upload(folder), tmp_path / "c"
    Corpus.build(url, to).close()
    asked = gets(monkeypatch)
    with Corpus.open(to) as corpus:
        assert corpus.refresh().files_read == 0
        # Whether a file of passages is one is seen by its beginning alone.
        assert set(asked) == {"a/leaves.jsonl", "a/log.jsonl"}
        asked.clear()
        # As long as before, and within the same second: what differs is below seconds.
        [before] = objects.listed(source_of(bucket.url("deep/er")))
        bucket.put({"deep/er/cocoa.txt": "Cocoa comes from the Andes!!", "new.txt": "Rooibos is red."})
        [after] = objects.listed(source_of(bucket.url("deep/er")))
        assert before.size == after.size
        assert before.mtime_ns % 10**9 != after.mtime_ns % 10**9
        bucket.delete("tea.md")
        report = corpus.refresh()
        assert (report.files_read, report.files_removed) == (2, 2)
        assert {"deep/er/cocoa.txt", "new.txt"} <= set(asked)
        assert not {"more.zip", "deep/coffee.csv"} & set(asked)
        assert corpus.search("Andes", k=1)[0].passage.text.endswith("Andes!!")
    assert check(to).faults == []


def test_nothing_fetched_is_left(
    bucket: Bucket, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(fetched.tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(fetched, "_AHEAD", 2)
    most = 0
    path = fetched.Fetched.path

    def counted(self: fetched.Fetched) -> Path:
        nonlocal most
        most = max(most, len(list((tmp_path / "tmp").glob("*/*"))))
        return path(self)

    monkeypatch.setattr(fetched.Fetched, "path", counted)
    url = bucket.upload(folder)
    bucket.put({f"n/{n:03}.txt": f"Number {n}." for n in range(30)})
    bucket.put({f"read apart/{n:03}.csv": f"number\n{n}\n" for n in range(90)})
    Corpus.build(url, tmp_path / "c").close()
    assert list((tmp_path / "tmp").iterdir()) == []
    assert 1 <= most <= 20 + 3 * (os.cpu_count() or 1)


def test_keys_that_are_no_names_are_left_out_by_name(bucket: Bucket, tmp_path: Path) -> None:
    odd = ["d//e.txt", "../up.txt", "x/../y.txt", "./dot.txt", "x/.", "/lead.txt", "trail/", "bell\x07.txt"]
    long = "l" * 1020 + ".txt"
    bucket.put(dict.fromkeys([*odd, long, "sub/"], "Something."))
    bucket.put({"marker/": "", "good.txt": "Good.", ".git/config.txt": "x", "was/.x.txt": "x"})
    bucket.put({"old/catalogue.sqlite": "x", "old/lexical-1/meta.json": "{}"})
    with Corpus.build(bucket.url(), tmp_path / "c") as corpus:
        skipped = dict(corpus.info().skipped_files)
        assert {name for name, note in skipped.items() if "no name of a file" in note} == {
            *("d//e.txt", "../up.txt", "x/../y.txt", "./dot.txt", "x/.", "/lead.txt", "trail/", "sub/"),
        }
        assert skipped[".git/"] == skipped["was/.x.txt"] == "hidden"
        assert skipped["old/"] == "a corpus, not a source of one"
        assert len(skipped) == len(corpus.info().skipped_files) == 11
        read = {record.name for record in corpus._catalogue.files() if record.kind == "document"}
        assert read == {"good.txt", long, r"bell\u0007.txt"}
    assert check(tmp_path / "c").outdated == []


def test_one_object_is_a_source(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put({"a/notes.txt": "One note.", "a/notes.txt.old/x.txt": "Another.", "a/broken.pdf": "no PDF"})
    with Corpus.build([bucket.url("a/notes.txt")], tmp_path / "c") as corpus:
        assert [record.name for record in corpus._catalogue.files()] == ["notes.txt"]
    with pytest.raises(DataError, match=r"broken\.pdf"):
        Corpus.build([bucket.url("a/broken.pdf")], tmp_path / "d")
    # What is named is read whatever it is called, and has to be what it says.
    bucket.put({"a/NOTES": "A note of no kind.", "a/rows.jsonl": '{"event": 1}'})
    with Corpus.build([bucket.url("a/NOTES")], tmp_path / "e") as corpus:
        assert [passage.text for passage in corpus] == ["A note of no kind."]
        assert [record.kind for record in corpus._catalogue.files()] == ["document"]
    with pytest.raises(DataError, match=r"rows\.jsonl"):
        Corpus.build([bucket.url("a/rows.jsonl")], tmp_path / "f")
    # Two sources that give one name.
    bucket.put({"b/notes.txt": "Another note."})
    names = [file.name for file in discover([bucket.url("a/notes.txt"), bucket.url("b"), bucket.url("b/")])]
    assert names == ["notes.txt/notes.txt", "b/notes.txt"]


def test_a_folder_and_a_prefix_are_read_together(bucket: Bucket, folder: Path, tmp_path: Path) -> None:
    bucket.put({"p/z.txt": "Rooibos is red.", "p/z.csv": "a,b\n1,2\n"})
    with Corpus.build([bucket.url("p"), folder], tmp_path / "c") as corpus:
        assert corpus.search("Rooibos", k=1)[0].passage.id == "z.txt#1"
        assert corpus.search("Paraguay", k=1)[0].passage.id == "more.zip/in it.txt#1"
        assert corpus.info().documents == 7


def test_an_archived_object_is_left_out(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put({"a.txt": "Here."})
    for key, kind in (
        ("b.txt", "GLACIER"), ("c.txt", "DEEP_ARCHIVE"), ("d.bin", "GLACIER"), ("e.txt", "STANDARD_IA")
    ):  # fmt: skip
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=b"Cold.", StorageClass=kind)
    with Corpus.build(bucket.url(), tmp_path / "c") as corpus:
        skipped = dict(corpus.info().skipped_files)
        assert skipped.pop("b.txt").startswith("in storage of the class GLACIER")
        assert skipped.pop("c.txt").startswith("in storage of the class DEEP_ARCHIVE")
        assert skipped == {"d.bin": "not a kind of file that is read"}  # however it is stored
        assert [passage.id for passage in corpus] == ["a.txt#1", "e.txt#1"]


def test_an_object_too_large_to_be_read_is_left_out(bucket: Bucket, tmp_path: Path, monkeypatch) -> None:
    bucket.put({"a.txt": "Here.", "b.txt": "Larger than that."})
    monkeypatch.setattr(keys, "LARGEST_DOCUMENT", 5)
    with Corpus.build(bucket.url(), tmp_path / "c") as corpus:
        assert dict(corpus.info().skipped_files) == {"b.txt": TOO_LARGE}


def test_what_describes_passages_is_read_where_there_are_none(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put({"a/rows.jsonl": '{"id": "1", "title": "", "text": "A row."}', "a/README.txt": "On rows."})
    bucket.put({"b/README.txt": "On tea."})
    with Corpus.build(bucket.url(), tmp_path / "c") as corpus:
        assert [passage.id for passage in corpus] == ["1", "b/README.txt#1"]


def test_an_object_that_vanishes_is_left_out(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put({"a.txt": "Here.", "b.txt": "Gone soon.", "c.csv": "a,b\n1,2\n", "d.csv": "a,b\n3,4\n"})
    bucket.put({"e.csv": "a,b\n5,6\n"})
    got = objects._got

    def vanishing(address: ObjectAddress) -> object:
        bucket.delete("b.txt", "c.csv", "e.csv")
        return got(address)

    monkeypatch.setattr(objects, "_got", vanishing)
    with Corpus.build(bucket.url(), tmp_path / "c") as corpus:
        gone = "it was deleted or moved meanwhile"
        assert dict(corpus.info().skipped_files) == {"b.txt": gone, "c.csv": gone, "e.csv": gone}
        assert corpus.info().documents == 2
        # All that is left goes while it is asked for: as a share that is lost.
        bucket.put({"a.txt": "Changed."})
        before = rows_of(corpus)
        monkeypatch.setattr(
            objects, "_got", lambda address: (bucket.delete("a.txt", "d.csv"), got(address))[1]
        )
        with pytest.raises(CorpusError, match=r"a\.txt: can't be read"):
            corpus.refresh()
        assert rows_of(corpus) == before


def test_an_object_that_changes_is_read_whole_and_again(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put({"a.txt": "First."})
    got = objects._got

    def changing(address: ObjectAddress) -> object:
        bucket.put({"a.txt": "Second, which is longer."})
        return got(address)

    monkeypatch.setattr(objects, "_got", changing)
    with Corpus.build(bucket.url(), tmp_path / "c") as corpus:
        assert rows_of(corpus)[0][3] == "Second, which is longer."
        monkeypatch.setattr(objects, "_got", got)
        assert corpus.refresh().files_read == 1
        assert corpus.refresh().files_read == 0


class Way:
    """A proxy before the store; cuts bodies of keys that hold `cut`, and may be closed."""

    def __init__(self, endpoint: str) -> None:
        host, port = endpoint.removeprefix("http://").split(":")
        self.cut, self.times, way = "", 0, self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                upstream = http.client.HTTPConnection(host, int(port))
                upstream.request("GET", self.path, headers=dict(self.headers))
                answer = upstream.getresponse()
                body = answer.read()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if way.cut and way.cut in self.path and way.times:
                    way.times -= 1
                    body = body[: len(body) // 2]
                    self.close_connection = True
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_what_is_cut_off_is_asked_for_again(
    bucket: Bucket, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put({"a.txt": "Here.", "b.txt": "Harbours " * 20_000})
    way = Way(endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", way.endpoint)
    monkeypatch.setattr(objects, "_PAUSE_SECONDS", 0.01)
    way.cut, way.times = "b.txt", 2
    with Corpus.build(bucket.url(), tmp_path / "c") as corpus:
        [record] = [record for record in corpus._catalogue.files() if record.name == "b.txt"]
        assert record.size == 180_000
        assert corpus.document("b.txt").text.count("Harbours") == 20_000
    assert way.times == 0
    way.close()


def test_an_object_that_is_cut_off_and_changed_is_read_in_one_version(
    bucket: Bucket, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put({"b.txt": "Harbours " * 20_000})
    way, got, asked = Way(endpoint), objects._got, []

    def shortened(address: ObjectAddress) -> object:
        asked.append(address)
        if len(asked) == 2:
            bucket.put({"b.txt": "A harbour."})
        return got(address)

    monkeypatch.setenv("AWS_ENDPOINT_URL", way.endpoint)
    monkeypatch.setattr(objects, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(objects, "_got", shortened)
    way.cut, way.times = "b.txt", 1
    with (tmp_path / "b").open("w+b") as out:
        objects.fetch(ObjectAddress(bucket.name, "b.txt"), out, threading.Event())
        assert (way.times, len(asked), out.tell()) == (0, 2, 10)
    assert (tmp_path / "b").read_text() == "A harbour."
    way.close()


def test_nothing_is_fetched_on_when_nobody_waits(
    bucket: Bucket, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put({"a.txt": "x" * (3 << 20)})
    address, ended = ObjectAddress(bucket.name, "a.txt"), threading.Event()
    ended.set()
    with (tmp_path / "a").open("w+b") as out:
        objects.fetch(address, out, ended)
        assert out.tell() == 1 << 20
    way = Way(endpoint)
    way.cut, way.times = "a.txt", 99
    monkeypatch.setenv("AWS_ENDPOINT_URL", way.endpoint)
    monkeypatch.setattr(objects, "_PAUSE_SECONDS", 60)
    fetcher = fetched.Fetcher()
    [coming] = fetcher.keeping([SourceFile("a.txt", address, "document", 3 << 20)])
    began = time.monotonic()
    while way.times == 99:
        time.sleep(0.01)
    fetcher.close()  # within the pause before it is asked for again
    assert time.monotonic() - began < 20
    assert not coming.at.exists()
    way.close()


def test_so_many_files_are_fetched_ahead_and_so_many_bytes(tmp_path: Path, monkeypatch) -> None:
    begun: list[SourceFile] = []
    files = [SourceFile(str(number), tmp_path, "document", size=10) for number in range(6)]

    def ahead(**limits: int) -> list[int]:
        begun.clear()
        for name, limit in limits.items():
            monkeypatch.setattr(fetched, name, limit)
        asked = (begun.append(file) or file for file in files)
        return [len(begun) for _ in fetched.Fetcher().keeping(asked)]

    assert ahead(_AHEAD=99, _AHEAD_BYTES=35) == [4, 5, 6, 6, 6, 6]
    assert ahead(_AHEAD=2, _AHEAD_BYTES=999) == [3, 4, 5, 6, 6, 6]
    assert ahead(_AHEAD=99, _AHEAD_BYTES=5) == [1, 2, 3, 4, 5, 6]  # each of them larger than all that may be


def test_a_network_that_goes_away_takes_nothing_with_it(
    bucket: Bucket, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put({"a.txt": "Here.", "b.txt": "There."})
    way = Way(endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", way.endpoint)
    monkeypatch.setattr(objects, "_PAUSE_SECONDS", 0.01)
    with Corpus.build(bucket.url(), tmp_path / "c") as corpus:
        before = rows_of(corpus)
        bucket.put({"b.txt": "There, and on.", "c.txt": "New."})
        way.cut, way.times = "b.txt", 99
        with pytest.raises(
            CorpusError, match=rf"^s3://{bucket.name}/b\.txt: can't be reached \(.*whole$"
        ) as info:
            corpus.refresh()
        assert "\n" not in str(info.value)
        assert rows_of(corpus) == before
        way.cut = ""
        assert corpus.refresh().files_read == 2
        way.close()
        objects._made_client.cache_clear()
        before = rows_of(corpus)
        with pytest.raises(CorpusError, match=r"can't be reached .*AWS_ENDPOINT_URL, which is http://127"):
            corpus.refresh()
        assert rows_of(corpus) == before
        # Answers are given as before, and a check says what it can't see.
        assert corpus.search("There", k=1)
        assert [fault.where for fault in check(tmp_path / "c").outdated] == ["the sources"]


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch):
    """Has a store answer as one that refuses: code and status by operation."""
    import botocore.exceptions

    def refuse(operation: str, code: str) -> None:
        call = objects._client().__class__._make_api_call

        def made(self: object, name: str, arguments: object) -> object:
            if name == operation:
                raise botocore.exceptions.ClientError({"Error": {"Code": code, "Message": "No."}}, name)
            return call(self, name, arguments)

        monkeypatch.setattr(objects._client().__class__, "_make_api_call", made)

    return refuse


@pytest.mark.parametrize(
    ("operation", "code", "said"),
    [
        ("ListObjectsV2", "AccessDenied", "permission denied (No.); ask for the rights s3:ListBucket and"),
        ("ListObjectsV2", "ExpiredToken", "the credentials are refused (ExpiredToken: No.); renew them"),
        ("GetObject", "ExpiredToken", "the credentials are refused (ExpiredToken: No.); renew them"),
        ("ListObjectsV2", "Strange", "the store says Strange: No.; check the bucket"),
        ("GetObject", "AccessDenied", "(1 left out, the first: a.txt, Permission denied)"),
    ],
)
def test_a_store_that_refuses(bucket, tmp_path, refusing, operation, code, said) -> None:
    bucket.put({"a.txt": "Here."})
    refusing(operation, code)
    with pytest.raises(CorpusError) as info:
        Corpus.build(bucket.url(), tmp_path / "c")
    assert said in str(info.value)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("s3://nosuchbucket/x", r"s3://nosuchbucket/x: there is no bucket 'nosuchbucket'; check its name"),
        ("s3://Not_A_Name!/x", r"s3://Not_A_Name!/x: can't be asked for .*expected s3://BUCKET"),
        ("s3://", "s3://: names no bucket; expected s3://BUCKET"),
        ("s3:///x", "s3:///x: names no bucket"),
        ("BUCKETnothing", "nothing: no object is called so, or lies below it; expected documents"),
        ("BUCKET", "an empty bucket; expected documents"),
    ],
)
def test_a_source_that_is_none(bucket, tmp_path, capsys, source, said) -> None:
    source = source.replace("BUCKET", bucket.url())
    assert run(["corpus", "build", source, "--to", str(tmp_path / "c")]) in (1, 2)
    [line] = capsys.readouterr().err.splitlines()
    assert re.search(said, line), line
    assert not (tmp_path / "c").exists()


def test_an_endpoint_that_is_none(bucket, tmp_path, capsys, monkeypatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    monkeypatch.setattr(objects, "_TRIES", 1)
    for endpoint, said in ((closed, "Could not connect"), ("nonsense", "Invalid endpoint")):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        assert run(["corpus", "build", bucket.url(), "--to", str(tmp_path / "c")]) == 1
        [line] = capsys.readouterr().err.splitlines()
        assert said in line
        assert f"AWS_ENDPOINT_URL, which is {endpoint}" in line


def test_no_credentials(bucket, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert run(["corpus", "build", bucket.url(), "--to", str(tmp_path / "c")]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "no credentials (Unable to locate credentials); set AWS_ACCESS_KEY_ID" in line


def test_without_the_extra(bucket, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert run(["corpus", "build", bucket.url(), "--to", str(tmp_path / "c")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "run `pip install 'fidkit[s3]'`" in line


def test_what_a_store_is_not_for(bucket, docs, tmp_path, capsys) -> None:
    bucket.put({"a.txt": "Here."})
    for words, said in (
        ([bucket.url(), "--to", str(tmp_path / "c"), "--watch"], "an object store can't be followed"),
        ([str(docs), "--to", bucket.url()], "holds documents, and no corpus"),
    ):
        assert run(["corpus", "build", *words]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(UsageError, match="can't be followed"):
        next(follow([bucket.url()], tmp_path / "c"))
    bucket.put({"catalogue.sqlite": "x"})
    with pytest.raises(CorpusError, match="is a built corpus, not a source"):
        discover([bucket.url()])


def test_verbs_take_objects(bucket, tmp_path, capsys, monkeypatch) -> None:
    bucket.put({"tea/tea.md": "# Tea\n\nTea comes from China.\n", "tea/x.txt": "Water is wet."})
    url = bucket.url("tea")
    assert run(["show", "tea.md:7-28", "--in", url, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["file"] == f"{url}/tea.md"
    corpus, _ = open_sources([url + "/"])
    corpus.close()
    assert corpus.path == default_location([url])
    assert run(["ask", "Where does tea come from?", "--in", url, "--where", "source=tea*", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["evidence"][0]["id"] == "tea.md#1"
    assert run(["corpus", "build", url, "--to", str(tmp_path / "c")]) == 0
    bucket.put({"tea/x.txt": "Water is dry."})
    bucket.delete("tea/tea.md")
    capsys.readouterr()
    assert run(["corpus", "check", str(tmp_path / "c")]) == 0
    said = capsys.readouterr().out
    assert "outdated  tea.md: no such object any more" in said
    assert "outdated  x.txt: written to since it was read" in said


def test_a_picture_of_a_page(bucket, tmp_path, capsys) -> None:
    reportlab = pytest.importorskip("reportlab.pdfgen.canvas")

    page = reportlab.Canvas(str(tmp_path / "a.pdf"))
    page.drawString(72, 700, "The deposit is due in May.")
    page.save()
    bucket.put({"a.pdf": (tmp_path / "a.pdf").read_bytes()})
    to = tmp_path / "page.png"
    assert run(["show", "a.pdf:0-10", "--in", bucket.url(), "--picture", str(to)]) == 0
    assert to.read_bytes().startswith(b"\x89PNG")


def test_addresses() -> None:
    assert source_of("s3://b/a//c/") == ObjectAddress("b", "a//c")
    assert source_of("s3://b/a//") == ObjectAddress("b", "a/")
    assert [ObjectAddress("b", key).name for key in ("a/c", "c", "")] == ["c", "c", "b"]
    assert absolute(Path("s3://b/x")) == absolute("S3://b/x/") == "s3://b/x"
    assert absolute("s3://b") == absolute("s3://b/") == "s3://b"
    assert absolute("x/../y") == str(Path("y").absolute())


def test_whether_there_is_anything(bucket: Bucket) -> None:
    assert not objects.holds_any(bucket.url())
    bucket.put({"p-other/x.txt": "x"})
    found = {key: objects.listed(ObjectAddress(bucket.name, key)) for key in ("", "p", "p-other/x.txt")}
    assert {key: [one.key for one in listed] for key, listed in found.items()} == {
        "": ["p-other/x.txt"], "p": [], "p-other/x.txt": ["p-other/x.txt"],
    }  # fmt: skip
    assert [objects.holds_any(bucket.url(key)) for key in ("", "p", "p-other", "p-other/x.txt")] == [
        True, False, True, True,
    ]  # fmt: skip


def test_objects_are_looked_for_where_they_may_be(bucket: Bucket, tmp_path: Path, monkeypatch) -> None:
    """Below what all of their names begin with, as far as that is as the store has it."""
    asked, pages = [], objects._pages
    monkeypatch.setattr(objects, "_pages", lambda *given: asked.append(given[1]) or pages(*given))
    bucket.put({"p/bell\x07/a.txt": "Here.", "p/bell\x07/b.txt": "There."})
    Corpus.build(bucket.url(), tmp_path / "c").close()
    asked.clear()
    assert check(tmp_path / "c").outdated == []
    assert asked == ["p/bell"]


def test_a_database_takes_objects(bucket, url, folder, tmp_path) -> None:
    where = bucket.upload(folder)
    with Corpus.build(folder, tmp_path / "local") as local, Corpus.build(where, url) as corpus:
        assert corpus.fingerprint == local.fingerprint
    bucket.put({"new.txt": "Rooibos is red."})
    with Corpus.build(where, url) as corpus:
        assert corpus.report is not None
        assert corpus.report.files_read == 1
        assert corpus.search("Rooibos", k=1)[0].passage.id == "new.txt#1"


def test_a_disk_that_is_full_is_said(bucket, tmp_path, monkeypatch) -> None:
    bucket.put({"a.txt": "Here."})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetched, "fetch", full)
    with pytest.raises(CorpusError, match=r"the disk is full .*set TMPDIR to another folder"):
        Corpus.build(bucket.url(), tmp_path / "c")
    shutil.rmtree(tmp_path / "c")
