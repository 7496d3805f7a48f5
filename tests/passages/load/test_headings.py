import io

import pytest

from fidkit.passages.load.document import Block, Document
from fidkit.passages.load.headings import bare_heading, called, first_line, heading
from fidkit.passages.load.rows import Row, passages_of, read_rows
from fidkit.passages.load.text import read_text


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("WELLMARCK AQUATIDE 740\nWashing machine, front loading", "WELLMARCK AQUATIDE 740"),
        ("  *** Statutes of 1978 ***  \n", "Statutes of 1978"),
        ("======\nWeather office\n======", "Weather office"),
        ("OKAFOR & NIECE, decorators                 13 March 2026", "OKAFOR & NIECE, decorators"),
        ("Okafor\t13 March", "Okafor"),
        ("Order no. 77", "Order no. 77"),
        ("From: Ann <a@b.example>\nSubject: Re: AW: Proofs and delivery\nDate: today", "Proofs and delivery"),
        ("Betreff:  Ihr   Angebot", "Ihr Angebot"),
        ("Betreff / Subject: Your order", "Your order"),
        ("Who are we?", "Who are we?"),
        ("Harbour rules\n" + "x\n" * 120 + "Subject: too far", "Harbour rules"),
        ("Subject: " + "long " * 40, ("long " * 40)[:80]),
        # What is none: sentences, greetings, fields, code, numbers, what is long, and nothing.
        ("The drum is secured for transport.", ""),
        ("Dear colleague,", ""),
        ("Date: 12 March", ""),
        ("$ burrow help backup", ""),
        ("[server]\nport = 1", ""),
        ("2025-11-01 12:00:01 INFO up", ""),
        ("12 AB", ""),
        ("Order no. 12345678", ""),
        ("Present are:", ""),
        ("one two three four five six seven eight nine ten eleven twelve thirteen", ""),
        ("Donaudampfschifffahrtsgesellschaft" * 3, ""),
        ("Dashes " + "-" * 500_000 + " within", ""),
        ("a" * 500_000, ""),
        ("", ""),
        ("\n----\n", ""),
    ],
)  # fmt: skip
def test_what_a_text_begins_with_is_its_title(text, title):
    assert first_line(text) == title


@pytest.mark.parametrize(
    ("name", "line", "whole"),
    [
        ("manual", "Aquatide 740", "manual: Aquatide 740"),
        ("itinerary", "YOUR ITINERARY", "YOUR ITINERARY"),
        ("bread-challah-two-braids", "CHALLAH - TWO BRAIDS", "bread-challah-two-braids"),
        ("notes", "", "notes"),
        ("Rules", "RULES", "Rules"),
    ],
)
def test_a_document_is_called_by_name_and_first_line(name, line, whole):
    assert called(name, line) == whole


@pytest.mark.parametrize(
    ("line", "below", "label"),
    [
        ("NO POWER?", "Ring us", "NO POWER?"),
        ("TODAY, FRIDAY:", "Rain", "TODAY, FRIDAY:"),
        ("  -- HOW TO APPLY --  ", "Form on paper", "HOW TO APPLY"),
        ("Household, first quarter", "-------", "Household, first quarter"),
        ("A sentence, even.", "=====", "A sentence, even."),
        ("Article 6. General meeting", "", "Article 6. General meeting"),
        ("§ 3  Miete", "", "§ 3 Miete"),
        ("2  PROGRAMMES", "", "2 PROGRAMMES"),
        ("B.1  Back-ups could not be restored", "", "B.1 Back-ups could not be restored"),
        ("VIII. Money", "", "VIII. Money"),
        ("4. How do I join?", "", "4. How do I join?"),
        ("3.    Detergent", "", "3. Detergent"),
        # A number alone makes no heading of a line that goes on, nor do capitals of a row of columns.
        ("1. Preheat the oven", "and grease the tin", ""),
        ("TOOL      OWNED    LENT", "Hammer 3 2", ""),
        ("1. The sum is due.", "", ""),
        ("a) cash", "", ""),
        ("12 marks", "", ""),
        ("2  15 marks", "", ""),
        ("Why?", "", ""),
        ("> QUOTED", "", ""),
        ("PLEASE NOTE,", "", ""),
        ("AB", "", ""),
        ("THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG AND RUNS AWAY AGAIN", "", ""),
        ("----", "", ""),
        ("", "", ""),
    ],
)
def test_headings_by_the_look_of_them(line, below, label):
    assert heading(line, below) == label


PROSE = "Mr Quennell fell from a stepladder on 17 September while he was picking quinces."


@pytest.mark.parametrize(
    ("line", "behind", "label"),
    [
        ("History", PROSE, "History"),
        ("  Assessment and plan", PROSE, "Assessment and plan"),
        ("Dear colleague,", PROSE, ""),
        ("History", "Too short to be told.", ""),
        ("History", "To: somebody who will read it some day, and then more words that follow on", ""),
        ("history", PROSE, ""),
        ("Room 12", PROSE, ""),
        ("How do I join?", PROSE, "How do I join?"),
        ("What follows:", PROSE, ""),
        ("Return (a = b)", PROSE, ""),
        ("Hammer     Saw", PROSE, ""),
        ("This has one word too many", PROSE, "This has one word too many"),
        ("This has one word too many now", PROSE, ""),
        ("", PROSE, ""),
    ],
)
def test_headings_that_only_stand_alone(line, behind, label):
    assert bare_heading(line, behind) == label


def sections(text):
    (document,) = read_text(io.BytesIO(text.encode()), "a.txt")
    assert document.text == text
    return [(place.label, text[place.start : place.end].split()[-1]) for place in document.places]


def test_sections_of_a_plain_text():
    text = f"MANUAL\n\nIntro\n\n1  WASHING\n\nwater\n\nCARE\noil it\n\nService\n=======\n\n\nring {PROSE}\n"
    assert sections(text) == [("1 WASHING", "water"), ("CARE", "it"), ("Service", "quinces.")]


def test_one_line_that_stands_alone_is_no_outline():
    one, more = f"A letter\n\nHistory\n\n{PROSE}", f"\n\nPlan\n\n{PROSE}"
    assert sections(one) == []
    assert [label for label, _ in sections(one + more)] == ["History", "Plan"]
    # Nor are lines that others stand beneath.
    below = f"A letter\n\nHistory\nof it\n\n{PROSE}\n\nPlan\nof it\n\n{PROSE}"
    assert sections(below) == []


def test_no_character_is_lost_by_headings():
    text = "\ufeffTITLE\r\n\r\nPART ONE\r\n=====\r\nwords\r\n\r\n2. Two\r\n\r\n  more  \r\n"
    (document,) = read_text(io.BytesIO(text.encode()), "a.txt")
    blocks = [text[block.start : block.end] for block in document.blocks]
    assert blocks == ["TITLE", "PART ONE\r\n=====", "words", "2. Two", "more"]
    assert [block.kind for block in document.blocks] == [
        "paragraph",
        "heading",
        "paragraph",
        "heading",
        "paragraph",
    ]


def test_passages_are_titled_by_what_the_document_begins_with():
    many = f"{PROSE} {PROSE} {PROSE}"
    manual = f"AQUATIDE 740\nWashing machine\n\n{many}\n\n1  CARE\n\n{many}\n"
    rows = list(read_rows(io.BytesIO(manual.encode()), "docs/manual.txt"))
    assert [row.title for row in rows] == ["manual: AQUATIDE 740", "manual: AQUATIDE 740: 1 CARE"]
    # A Markdown file without a heading is called the same way; rows and code say nothing of the kind.
    (row,) = read_rows(io.BytesIO(b"Harbour rules\n\nNo swimming here.\n"), "a.md")
    assert row == Row("a.md#1", "a: Harbour rules", "Harbour rules\n\nNo swimming here.", 0, 32)
    assert [row.title for row in read_rows(io.BytesIO(b"Harbour,Depth\nNorth,12\n"), "b.csv")] == ["b"]
    assert [row.title for row in read_rows(io.BytesIO(b"import os\n"), "c.py")] == ["c.py"]
    # What is all of a document is no title of it.
    assert [row.title for row in read_rows(io.BytesIO(b"Harbour rules\n"), "d.txt")] == ["d"]
    assert [row.title for row in read_rows(io.BytesIO(b"Rules\nNo swimming.\n"), "d.txt")] == ["d: Rules"]


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        ("heading", "a: Harbour rules"),
        ("paragraph", "a: Harbour rules"),
        ("code", "a"),
        ("row", "a"),
        ("item", "a"),
    ],
)
def test_only_a_heading_or_paragraph_gives_a_document_its_name(kind, title):
    text = "Harbour rules\nNo swimming"
    document = Document("", text, (Block(0, 13, kind), Block(14, len(text))))
    assert [row.title for row in passages_of(document, "a.pdf")] == [title]
    (row,) = passages_of(Document("Rules", text, document.blocks), "a.pdf")
    assert row.title == ("Rules: Harbour rules" if kind == "heading" else "Rules")


def test_a_first_heading_is_in_the_title_of_all_passages_and_never_twice():
    texts = ["Harbour rules", f"{PROSE} {PROSE} {PROSE}", "Depths", f"{PROSE} {PROSE} {PROSE}"]
    text, blocks = "\n".join(texts), list[Block]()
    for at, part in enumerate(texts):
        start = len("\n".join(texts[:at])) + (at > 0)
        blocks.append(Block(start, start + len(part), "paragraph" if at % 2 else "heading"))
    rows = list(passages_of(Document("", text, tuple(blocks)), "a.pdf"))
    assert [row.title for row in rows] == ["a: Harbour rules", "a: Harbour rules: Depths"]
