import time

import pytest

from documents import blocks, office, one, outcome, pandoc, place, texts
from fidkit.passages.load.record import UnreadableFile

DELETED = ("text that was deleted while changes were tracked is left out",)


def rtf(body: str) -> bytes:
    return (r"{\rtf1\ansi " + body + "}").encode()


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


def test_what_was_deleted_while_changes_were_tracked_is_left_out():
    document = one(rtf(r"The notice is {\deleted three {\b mon}ths}{\revised seven weeks}.\par"), "a.rtf")
    assert texts(document) == ["The notice is seven weeks."]
    assert document.notes == DELETED


def test_a_deletion_ends_with_its_group_or_where_a_word_takes_it_back():
    body = r"{\deleted a }b {\b\deleted c {\plain d}\plain e }\mvf f \mvf0 g \deleted h \deleted0 i\par"
    assert texts(one(rtf(body), "a.rtf")) == ["b e g i"]


def test_nothing_is_said_where_nothing_was_deleted():
    document = one(rtf(r"kept \\deleted \deleted0 too\par"), "a.rtf")
    assert texts(document) == [r"kept \deleted too"]
    assert document.notes == ()


def test_a_footnote_of_deleted_text_goes_with_it():
    document = one(rtf(r"kept{\deleted gone{\footnote below}} too{\footnote stays}\par"), "a.rtf")
    assert texts(document) == ["kept too[1]", "[1] stays"]


def test_many_deletions_take_no_long():
    start = time.process_time()  # other programs may take the processor meanwhile
    one(rtf(r"\deleted {{{ }}}" * 100_000), "a.rtf")
    one(rtf(r"{\deleted x}" * 100_000), "a.rtf")
    assert time.process_time() - start < 10


def test_paragraphs_of_any_cell_are_kept_apart():
    body = r"\trowd\intbl Ada\cell Berg\par Cole\par\par Dunn\cell Eve\cell\row\pard end\par"
    assert blocks(one(rtf(body), "a.rtf"))[0] == ("row", "Ada | Berg; Cole; Dunn | Eve")


def test_a_table_in_a_cell_is_text_of_that_cell():
    inner = r"\itap2 Deputy\nestcell Phone\nestcell{\*\nesttableprops\trowd\nestrow}{\nonesttables\par}"
    rows = [
        r"\trowd\intbl Floor\cell Tenant\cell\row",
        rf"\trowd\intbl Ground\cell Jeck\par {inner}\intbl\cell\row",
        r"\trowd\intbl First\cell Tross\cell\row\pard end\par",
    ]
    found = blocks(one(rtf("".join(rows)), "a.rtf"))
    assert ("row", "Floor: Ground | Tenant: Jeck; Deputy; Phone") in found
    assert ("row", "Floor: First | Tenant: Tross") in found


def test_a_row_without_an_end_ends_where_a_paragraph_begins_anew():
    found = blocks(one(rtf(r"\trowd\intbl Ada\cell Berg\cell\par\pard after\par last\par"), "a.rtf"))
    assert found == [("row", "Ada | Berg"), ("paragraph", "after"), ("paragraph", "last")]


def test_items_of_a_cell_stay_in_it():
    item = r"{\listtext\pard\plain 1.\tab}"
    body = rf"\trowd\intbl Ada\cell {item}Berg\par {item}Cole\par {item}Dunn\cell\row\pard end\par"
    assert blocks(one(rtf(body), "a.rtf"))[0] == ("row", "Ada | 1. Berg; 1. Cole; 1. Dunn")
