import gzip
import io
import zipfile

import pytest

from documents import packed, read, texts
from fidkit.passages.load import archive
from fidkit.passages.load.record import UnreadableFile

TABLE = b"k,v\n1,2\n"


def test_files_are_documents_by_their_paths():
    data = packed({
        "a/b.csv": TABLE, "../../c.csv": TABLE, "/etc/d.csv": TABLE, "e.csv.gz": gzip.compress(TABLE),
        "f\n.csv": TABLE, "__MACOSX/f.csv": TABLE, ".hidden/g.csv": TABLE, "h.bin": b"x", "ü.csv": TABLE,
        "c.csv": TABLE,        "empty/": b"",
    })  # fmt: skip
    *documents, own = read(data, "a.zip")
    members = [document.member for document in documents]
    assert members == ["a/b.csv", "c.csv", "etc/d.csv", "e.csv.gz", "f\ufffd.csv", "ü.csv", "c (2).csv"]
    assert all(texts(document) == ["k | v", "k: 1 | v: 2"] for document in documents)
    assert (own.member, own.text) == ("", "")
    assert own.notes == ("files of kinds that aren't read: h.bin", "2 hidden files are passed over")


def test_archives_in_archives_are_read_four_deep():
    data, name = TABLE, "deep.csv"
    for depth in range(6):
        data, name = packed({name: data, f"{depth}.csv": TABLE}), f"{depth}.zip"
    documents = read(data, "a.zip")
    found = [document.member for document in documents if document.text]
    assert found == ["4.zip/3.zip/2.zip/2.csv", "4.zip/3.zip/3.csv", "4.zip/4.csv", "5.csv"]
    (noted,) = [document for document in documents if document.notes]
    assert noted.member == "4.zip/3.zip/2.zip/1.zip"
    assert "0.zip is left out: it lies in more than 4 files" in noted.notes


def test_a_broken_member_is_named_and_the_rest_is_read():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("bad.csv", b"k,v\nbad,2\n")
        archive.writestr("good.csv", TABLE)
    data = stream.getvalue().replace(b"bad,2", b"bat,2", 1)
    good, own = read(data, "a.zip")
    assert good.member == "good.csv"
    assert own.notes == ("bad.csv can't be read: expected a whole file, but Bad CRC-32 for file 'bad.csv'",)


def test_a_password_is_named():
    data = bytearray(packed({"a.csv": TABLE}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (own,) = read(bytes(data), "a.zip")
    assert own.notes == ("a.csv can't be read: it needs a password",)


def test_a_bomb_is_named_and_what_is_allowed_is_shared():
    zeros = bytes(60_000_000)
    data = packed({"a.csv": TABLE, "b.csv": zeros, "c.zip": packed({"d.csv": zeros}), "e.csv": TABLE})
    first, *_, own = read(data, "a.zip")
    assert texts(first) == ["k | v", "k: 1 | v: 2"]
    assert own.notes[0].startswith("b.csv can't be read: binary, not text")
    assert "e.csv can't be read: expected a whole file, but it unpacks to more than 100 MB" in own.notes


def test_what_is_no_archive():
    with pytest.raises(UnreadableFile, match="expected a ZIP archive, but File is not a zip file"):
        read(b"text", "a.zip")


def test_an_archive_of_too_many_files_is_refused(monkeypatch):
    monkeypatch.setattr(archive, "MOST_MEMBERS", 3)
    assert len(read(packed({f"{n}.csv": TABLE for n in range(3)}), "a.zip")) == 3
    with pytest.raises(UnreadableFile, match="expected at most 3 files in a ZIP archive, got 4; split it"):
        read(packed({f"{n}.csv": TABLE for n in range(4)}), "a.zip")
