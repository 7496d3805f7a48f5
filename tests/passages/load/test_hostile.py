"""Files that were made to do harm, or were harmed: an error or a document, in bounded time."""

import os
import time

import pytest
from harm.packages import book, notebook, opendocument_sheet, opendocument_text, rich_text, word

from documents import (
    READERS,
    broken,
    broken_within,
    mail,
    opendocument_slides,
    outcome,
    packed,
    presentation,
    read,
    texts,
    unpacked,
    workbook,
)
from fidkit.passages.load.record import UnreadableFile

MOST_S = 10
LAUGHS = (
    """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha">{}<!ENTITY file SYSTEM "file:///etc/passwd">]>"""
)
ENTITIES = "".join(
    f'<!ENTITY {name} "{f"&{inner};" * 10}">' for inner, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    message = mail(From="a@x.org")
    message.set_content("text")
    message.add_attachment("a,b\n1,2\n", subtype="csv", filename="t.csv")
    ships = ("A", [["Ship", "Masts"], ["Aurora", 3]], [])
    return {
        "docx": word(),
        "odt": opendocument_text(),
        "epub": book(),
        "rtf": rich_text(),
        "ipynb": notebook(),
        "pptx": presentation(),
        "odp": opendocument_slides("<draw:frame svg:x='1cm'><text:p>a</text:p></draw:frame>" * 9),
        "xlsx": workbook(ships, ("Hidden", [["Ada", 1]], [])),
        "ods": opendocument_sheet(),
        "eml": bytes(message),
        "csv": b"a,b\n1,2\n" * 20,
        "zip": packed({"a.docx": word(), "b.eml": bytes(message)}),
    }


KINDS = ["docx", "odt", "epub", "rtf", "ipynb", "pptx", "odp", "xlsx", "ods", "eml", "csv", "zip"]
MAIN = {
    "docx": "word/document.xml",
    "odt": "content.xml",
    "ods": "content.xml",
    "odp": "content.xml",
    "xlsx": "xl/worksheets/sheet1.xml",
    "epub": "META-INF/container.xml",
    "pptx": "ppt/presentation.xml",
}
PACKAGES = ["docx", "odt", "odp", "epub", "pptx", "xlsx", "ods"]


@pytest.mark.parametrize("kind", KINDS)
def test_broken_bytes(files, kind):
    for number, data in enumerate(broken(files[kind], 100, seed=7)):
        start = time.monotonic()
        assert outcome(data, f"{number}.{kind}") in ("read", "unreadable")
        assert time.monotonic() - start < MOST_S


@pytest.mark.parametrize("kind", PACKAGES)
def test_broken_bytes_within(files, kind):
    for number, data in enumerate(broken_within(files[kind], 100, seed=8)):
        start = time.monotonic()
        assert outcome(data, f"{number}.{kind}") in ("read", "unreadable")
        assert time.monotonic() - start < MOST_S


@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_of_file(files, kind):
    for other, data in {**files, "empty": b"", "noise": os.urandom(5000)}.items():
        if other != kind and not (kind in ("csv", "eml", "zip") or other == "zip"):
            with pytest.raises(UnreadableFile):
                read(data, f"a.{kind}")
        outcome(data, f"a.{kind}")


@pytest.mark.parametrize("kind", PACKAGES)
def test_entities_of_xml_are_neither_expanded_nor_fetched(files, kind):
    members = unpacked(files[kind])
    for name, data in members.items():
        if name.endswith((".xml", ".xhtml", ".opf")) and "rels" not in name and b"?>" in data:
            body = (
                data.partition(b"?>")[2]
                .replace(b"Aurora", b"Aurora &i; &file;")
                .replace(b">Ada<", b">&i;&file;<")
            )
            members[name] = LAUGHS.format(ENTITIES).encode() + body
    start = time.monotonic()
    try:
        documents = read(packed(members), f"a.{kind}")
    except UnreadableFile:
        documents = []
    assert time.monotonic() - start < MOST_S
    for document in documents:
        assert "haha" not in document.text
        assert "root:" not in document.text


@pytest.mark.parametrize("kind", ["docx", "odt", "ods"])
def test_an_entity_is_no_text(files, kind):
    members = unpacked(files[kind])
    head, _, body = members[MAIN[kind]].partition(b"?>")
    body = body.replace(b"Aurora", b"Aurora &a; &file;")
    members[MAIN[kind]] = (
        head + b'?><!DOCTYPE x [<!ENTITY a "sly"><!ENTITY file SYSTEM "file:///etc/passwd">]>' + body
    )
    (document,) = read(packed(members), f"a.{kind}")
    assert "Aurora" in document.text
    assert "sly" not in document.text
    assert "root:" not in document.text


@pytest.mark.parametrize("kind", PACKAGES)
def test_a_package_that_unpacks_to_a_gigabyte(files, kind):
    members = unpacked(files[kind])
    main = MAIN[kind]
    assert main in members
    members[main] = members[main] + b" " * 150_000_000
    start = time.monotonic()
    with pytest.raises(UnreadableFile, match=r"unpacks to more than 100 MB; split it or leave it out"):
        read(packed(members), f"a.{kind}")
    assert time.monotonic() - start < MOST_S


def test_elements_in_one_another_a_hundred_thousand_times():
    message = mail()
    message.set_content("<div>" * 100_000 + "deep", subtype="html")
    outcome(bytes(message), "a.eml")
    members = unpacked(word())
    deep = b"<w:sdt><w:sdtContent>" * 100_000
    members["word/document.xml"] = members["word/document.xml"].replace(b"<w:body>", b"<w:body>" + deep)
    assert outcome(packed(members), "a.docx") == "unreadable"


def test_a_mail_of_many_parts_in_one_another_and_headers_without_end():
    raw = b"".join(b"Content-Type: multipart/mixed; boundary=%d\n\n--%d\n" % (at, at) for at in range(3000))
    start = time.monotonic()
    outcome(b"Subject: x\n" + raw, "a.eml")
    outcome(b"Subject: " + b"=?utf-8?q?" * 200_000 + b"\nTo: " + b"<a@b>," * 200_000 + b"\n\ntext", "b.eml")
    assert time.monotonic() - start < MOST_S


def test_files_with_nothing_in_them():
    for ending in READERS:
        outcome(b"", f"a{ending}")
    assert texts(read(b"Subject: x\n\n", "a.eml")[0]) == []
