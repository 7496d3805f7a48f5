import time

import pytest

from documents import blocks, office, one, outcome, pandoc, place, texts
from fidkit.passages.load.record import UnreadableFile


def test_a_text_as_pandoc_writes_it():
    document = one(pandoc("rtf"), "a.rtf")
    assert blocks(document)[2:6] == [
        ("heading", "Ships"),
        ("paragraph", "The Aurora sailed in 1901.[1] See the list."),
        ("item", "• first thing"),
        ("item", "• second thing"),
    ]
    assert ("row", "Ship: Aurora | Masts: 3 | Built: 1901") in blocks(document)
    assert texts(document)[-1] == "[1] She was rebuilt in 1910."
    assert place(document, "heading", "Storms") == "Storms\n\nA storm came."


@pytest.mark.slow
def test_a_text_as_libreoffice_writes_it(tmp_path):
    document = one(office(pandoc("docx"), "a.docx", "rtf", tmp_path), "a.rtf")
    assert (document.title, document.facts["author"]) == ("The Harbour", "Ada Berg")
    assert document.facts["date"].startswith("20")
    assert ("item", "• first thing") in blocks(document)
    assert ("row", "Ship: Aurora | Masts: 3 | Built: 1901") in blocks(document)
    assert place(document, "heading", "Masts").startswith("Masts\n\nShip | Masts | Built\n")
    assert texts(document)[-1] == "[1] She was rebuilt in 1910."


def test_characters_headers_and_pictures():
    code = (
        r"{\rtf1\ansi\ansicpg1251{\fonttbl{\f0\fcharset204 Arial;}}{\info{\title \'cf\'ee\'f0\'f2}"
        r"{\creatim\yr1999\mo2\dy3}}{\header\pard top\par}{\footer\pard below\par}"
        r"\pard\f0 \'cf\'ee\'f0\'f2 \u8364? \u-10179?\u-8704?\par{\pict\bin4 {{{{}{\pict "
        + "0a" * 400
        + r"}\pard last\par}"
    )
    document = one(code.encode("latin-1"), "a.rtf")
    assert document.title == "Порт"
    assert document.facts == {"date": "1999-02-03"}
    assert blocks(document) == [
        ("repeated", "top"),
        ("paragraph", "Порт € 😀"),
        ("paragraph", "last"),
        ("repeated", "below"),
    ]


def test_another_file_is_refused():
    with pytest.raises(UnreadableFile, match="expected rich text"):
        one(b"plain text", "a.rtf")


@pytest.mark.parametrize(
    "bomb",
    [
        "{" * 200_000,
        r"{\field{\*\fldinst{" * 20_000,
        r"{\fonttbl" + r"{\f1 " * 60_000,
        r"{\footnote " * 50_000,
        r"{\pict\bin9 " * 50_000,
        r"{\stylesheet" + r"{\s1" * 50_000,
    ],
)
def test_what_takes_long_elsewhere(bomb):
    start = time.monotonic()
    outcome((r"{\rtf1\ansi " + bomb).encode(), "a.rtf")
    assert time.monotonic() - start < 10
