import io
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidkit.errors import UsageError
from fidkit.passages.load.cutting import Cutting, cut, most
from fidkit.passages.load.document import Block, Document, Place, Writer
from fidkit.passages.load.rows import passages_of, read_rows
from fidkit.passages.load.words import words_of

words = st.one_of(
    st.sampled_from(
        ["word", "Mr.", "end.", "Is?", "|", "茶来自中国。好吗？", "กาแฟมีถิ่นกำเนิดในเอธิโอเปีย", "x" * 70]
    ),
    st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"]), min_size=1, max_size=12),
)
kinds = st.sampled_from(["paragraph", "heading", "item", "row", "code", "repeated"])
parts = st.tuples(kinds, st.integers(1, 3), st.lists(words, min_size=1, max_size=60))


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Blocks of all kinds, sheets among them, and some white space between."""
    writer = Writer()
    for number, (kind, level, some) in enumerate(draw(st.lists(parts, max_size=12))):
        if number % 4 == 1:
            writer.begin("sheet", f"Sheet {number}")
        writer.block(draw(st.sampled_from([" ", "\n", "  "])).join(some), kind, level)
        if number % 4 == 3:
            writer.end()
    return writer.document("T")


def counted(document: Document, start: int, end: int) -> int:
    return len(list(words_of(document.text, start, end)))


def block_words(document: Document, kinds: set[str]) -> list[tuple[int, int]]:
    return [
        word
        for block in document.blocks
        if block.kind in kinds
        for word in words_of(document.text, block.start, block.end)
    ]


sizes = pytest.mark.parametrize(("size", "overlap"), [(100, 0), (20, 0), (20, 8), (5, 4), (1, 0)])


@sizes
@given(document=documents())
def test_every_word_is_in_a_piece_and_nothing_repeated_is(size, overlap, document):
    pieces = list(cut(document, size, overlap))
    covered = {at for piece in pieces for at in range(piece.start, piece.end)}
    said = block_words(document, {"paragraph", "heading", "item", "row", "code"})
    assert all(covered.issuperset(range(*word)) for word in said)
    assert not any(covered.intersection(range(*word)) for word in block_words(document, {"repeated"}))


@sizes
@given(document=documents())
def test_pieces_are_slices_in_order_and_none_is_too_long(size, overlap, document):
    pieces = list(cut(document, size, overlap))
    assert pieces == list(cut(document, size, overlap))
    for before, after in pairwise(pieces):
        assert before.start < after.start
        assert before.end < after.end
        assert overlap or before.end <= after.start
        assert counted(document, after.start, before.end) <= overlap
    for piece in pieces:
        text = document.text[piece.start : piece.end]
        assert text == text.strip() != ""
        assert counted(document, piece.start, piece.end) <= most(size) + overlap


@given(document=documents(), size=st.sampled_from([100, 30]))
def test_a_row_is_whole_unless_it_is_too_long_alone(document, size):
    pieces = list(cut(document, size))
    for block in document.blocks:
        if block.kind == "row" and counted(document, block.start, block.end) <= most(size):
            assert any(piece.start <= block.start and block.end <= piece.end for piece in pieces)


@given(document=documents())
def test_pieces_are_no_scraps_where_nothing_forces_them(document):
    blocks = tuple(
        replace(b, kind="paragraph") if b.kind in ("row", "repeated") else b for b in document.blocks
    )
    document = replace(document, blocks=blocks)
    counts = [counted(document, piece.start, piece.end) for piece in cut(document)]
    assert len(counts) < 2 or min(counts) >= 25


def paragraph(*counts: int) -> str:
    """Sentences of so many words."""
    return " ".join(" ".join(["word"] * (count - 1) + ["End."]) for count in counts)


def texts(document: Document, *options: int) -> list[str]:
    return [document.text[piece.start : piece.end] for piece in cut(document, *options)]


@pytest.mark.parametrize(
    ("sentences", "expected"),
    [
        ((1,), [1]),
        ((100,), [100]),
        ((124,), [124]),
        ((40, 40, 45), [80, 45]),
        ((60, 48, 60), [108, 60]),
        ((90, 20, 90), [90, 110]),
        ((30, 30, 400), [60, 100, 100, 100, 100]),
        ((45, 400), [100, 100, 100, 100, 45]),
    ],
)
def test_a_piece_ends_with_the_sentence_nearest_to_a_hundred_words(sentences, expected):
    document = Document("", paragraph(*sentences))
    assert [len(text.split()) for text in texts(document)] == expected


def test_blocks_go_before_sentences_and_sections_before_blocks():
    writer = Writer()
    for heading, counts in (("One", (30, 30, 30)), ("Two", (30, 25, 30, 30))):
        writer.block(heading, "heading")
        for count in counts:
            writer.block(paragraph(count // 2, count - count // 2))
    assert [len(text.split()) for text in texts(writer.document())] == [91, 86, 30]
    long = Writer()
    long.block(paragraph(*[10] * 6))
    long.block(paragraph(*[10] * 10))
    assert [len(text.split()) for text in texts(long.document())] == [60, 100]


def test_no_piece_ends_with_a_heading():
    writer = Writer()
    writer.block(paragraph(60))
    writer.block("Chapter", "heading", 1)
    writer.block("Section", "heading", 2)
    writer.block(paragraph(60, 60))
    writer.block("Last", "heading", 2)
    writer.block(paragraph(40))
    assert [text.split()[0] for text in texts(writer.document())] == ["word", "Chapter", "Last"]


def test_a_row_that_does_not_fit_begins_the_next_piece():
    writer = Writer()
    for count in (40, 110, 20, 300):
        writer.block(" ".join(["cell"] * count), "row")
    assert [len(text.split()) for text in texts(writer.document())] == [40, 110, 100, 100, 120]


def test_code_is_cut_between_lines():
    writer = Writer()
    writer.block("\n".join(f"value = {number} . Two + 1" for number in range(60)), "code")
    # Seven words a line, so that no hundred of them ends with one, and marks that end sentences elsewhere.
    assert [len(text.splitlines()) for text in texts(writer.document())] == [14, 14, 14, 14, 4]
    assert all(text.startswith("value") and text.endswith("1") for text in texts(writer.document()))


def test_titles_are_of_the_nearest_heading_slide_or_sheet():
    writer = Writer()
    for number, heading in ((1, "First"), (2, "")):
        writer.begin("slide", str(number))
        writer.block(heading, "heading")
        writer.block(paragraph(60))
        writer.end()
    writer.begin("sheet", "Sales")
    writer.block(paragraph(60), "row")
    document = writer.document("Deck")
    assert [piece.section for piece in cut(document, 60)] == ["First", "", "Sales"]
    titles = [row.title for row in passages_of(document, "d/deck.pptx", 60)]
    assert titles == ["Deck: First", "Deck", "Deck: Sales"]


def test_the_innermost_place_gives_the_title():
    text = "A\n\n" + paragraph(60) + "\n\nB\n\n" + paragraph(60) + "\n\nC\n\n" + paragraph(60)
    b, c = text.index("\nB\n") + 1, text.index("\nC\n") + 1
    places = (
        Place(0, c, "heading", "A"), Place(b, c, "heading", "B"), Place(c, len(text), "heading", "C"),
        Place(0, len(text), "page", "1"),
    )  # fmt: skip
    assert [piece.section for piece in cut(Document("", text, places=places), 60)] == ["A", "B", "C"]


def test_an_overlap_is_of_whole_sentences_and_leaves_a_section_alone():
    document = Document("", paragraph(*[10] * 12))
    assert [len(text.split()) for text in texts(document, 40, 15)] == [40, 50, 50]
    assert [len(text.split()) for text in texts(document, 40, 9)] == [40, 40, 40]
    assert [len(text.split()) for text in texts(document, 40, 25)] == [40, 60, 60]  # as many as there may be
    writer = Writer()
    for heading in ("One", "Two"):
        writer.block(heading, "heading")
        writer.block(paragraph(*[10] * 4))
    assert [text.split()[0] for text in texts(writer.document(), 40, 15)] == ["One", "Two"]


def test_rows_are_repeated_whole():
    writer = Writer()
    for _ in range(12):
        writer.block(" ".join(["cell"] * 10), "row")
    assert [len(text.split()) for text in texts(writer.document(), 40, 15)] == [40, 50, 40, 20]


def test_nothing_of_the_section_before_is_repeated():
    writer = Writer()
    writer.block("One", "heading")
    writer.block("Is short. Was short.")  # too short for a piece of its own
    writer.block("Two", "heading")
    writer.block(paragraph(*[10] * 8))
    assert [text.split()[0] for text in texts(writer.document(), 40, 39)][:2] == ["One", "Two"]


def test_a_heading_ends_where_one_of_its_level_begins_and_holds_those_below():
    writer = Writer()
    for level, heading in ((1, "Alpha"), (2, "1"), (1, "2"), (1, "Omega"), (2, "Omicron")):
        writer.block(heading, "heading", level)
        writer.block(paragraph(60))
    # A number gives no name, but that of what it lies in.
    sections = [piece.section for piece in cut(writer.document(), 61)]
    assert sections == ["Alpha", "Alpha", "", "Omega", "Omicron"]


def test_of_places_that_begin_together_the_smaller_lies_in_the_larger():
    text = paragraph(60, 60)
    places = (Place(0, len(text), "chapter", "Book"), Place(0, len(text) // 2, "heading", "One"))
    for some in (places, places[::-1]):
        assert [piece.section for piece in cut(Document("", text, places=some), 60)] == ["One", "Book"]


def test_the_least_and_the_most_that_may_be_asked_for():
    assert (Cutting(10, 9), Cutting(1000, 999)) == (
        Cutting(words=10, overlap=9),
        Cutting(words=1000, overlap=999),
    )
    for words, overlap in ((9, 0), (1001, 0), (10, 10), (100, True)):
        with pytest.raises(UsageError, match="expected"):
            Cutting(words, overlap)


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (-5, 0), (10, 10), (10, -1)])
def test_sizes_that_make_no_sense_are_refused(size, overlap):
    with pytest.raises(UsageError, match="can't be; expected"):
        list(cut(Document("", "a"), size, overlap))


@pytest.mark.parametrize("text", ["茶" * 5000, "ก" * 5000, "x" * 5000, "茶来自中国。" * 800])
def test_text_without_spaces_is_cut_too(text):
    pieces = list(cut(Document("", text)))
    assert len(pieces) > 5
    assert max(piece.end - piece.start for piece in pieces) < 1000


def test_what_has_no_spaces_ends_with_its_sentences():
    chinese = "".join(f"这是第{'一二三四五六七八九'[n % 9]}句话，里面有很多字。" for n in range(60))
    assert all(text.endswith("。") for text in texts(Document("", chinese)))
    thai = "กั้น" * 50
    ends = [end for _, end in words_of(thai, 0, len(thai))]
    assert len(ends) > 20
    assert all(thai[end] not in "\u0e31\u0e49" for end in ends[:-1])
    assert list(words_of("茶来自中国。", 0, 6)) == [(0, 2), (2, 4), (4, 6)]


def test_the_language_of_the_document_tells_its_abbreviations():
    text = paragraph(58) + " Das ist z.B. " + paragraph(60, 40)
    german = Document("", text, facts={"language": "de-AT"})
    assert all(not piece.endswith("z.B.") for piece in texts(german, 61))


@pytest.mark.parametrize(
    "text",
    [
        "word " * 200_000,
        "x" * 1_000_000,
        "." * 1_000_000,
        "\n" * 1_000_000 + "a",
        '"a ' * 300_000,
        "(a. " * 200_000,
    ],
)
def test_a_megabyte_of_anything_is_cut_in_seconds(text):
    began = time.process_time()
    assert list(cut(Document("", text, (Block(0, len(text)),)), 100, 20))
    assert time.process_time() - began < 20


def test_offsets_count_characters_of_the_file_as_it_is():
    data = "\ufeffZoë naïve\r\n\r\n茶 and 🍵 tea".encode()
    (row,) = read_rows(io.BytesIO(data), "notes/x.txt")
    assert (row.id, row.title, row.text) == (
        "notes/x.txt#1",
        "x: Zoë naïve",
        "Zoë naïve\r\n\r\n茶 and 🍵 tea",
    )
    assert data.decode("utf-8")[row.start : row.end] == row.text


def test_members_of_a_file_have_ids_and_titles_of_their_own():
    rows = [
        *passages_of(Document("", "one", member="in/a.txt"), "z.zip"),
        *passages_of(Document("Z", "two"), "z.zip"),
    ]
    assert [(row.id, row.title) for row in rows] == [("z.zip/in/a.txt#1", "a"), ("z.zip#1", "Z")]


def test_a_long_row_takes_time_by_its_length():
    def took(count: int) -> float:
        text = "|" * count
        document = Document("", text, (Block(0, count, "row"),))
        began = time.process_time()
        assert len(list(cut(document, 100, 0))) > count / 1000
        return time.process_time() - began

    took(1_000)
    assert took(400_000) < 2
