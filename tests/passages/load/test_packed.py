import random
import zlib
from dataclasses import replace

import pytest

from fidkit.passages.load.document import Block, Box, Document, Place
from fidkit.passages.load.packed import (
    REPEATED,
    blocks_of,
    boxes_in,
    joined_in_lines,
    pack,
    places_in,
    text_of,
)
from fidkit.passages.load.record import UnreadableFile

EVERYTHING = (0, 1 << 40)


def document(words: int = 400, seed: int = 0) -> Document:
    """Ten words a line, forty lines a page, with a heading in front and places in one another."""
    draw = random.Random(seed)
    texts = ["".join(draw.choices("aé茶b", k=draw.randint(1, 9))) for _ in range(words)]
    text, boxes, at = " ".join(texts), [], 0
    for n, word in enumerate(texts):
        left, top = round(40 + 50 * (n % 10) + draw.random(), 1), round(700 - 14 * (n // 10 % 40), 1)
        boxes.append(Box(at, at + len(word), 1 + n // 400, left, top, left + 40.5, top + 9.3))
        at += len(word) + 1
    middle = text.index(" ", len(text) // 2)
    places = (
        Place(0, len(text), "chapter", "One"),
        Place(0, middle, "page", "1"),
        Place(middle, len(text), "page", "2"),
    )
    blocks = (Block(0, 5, "heading", 2), Block(6, middle), Block(middle + 1, len(text), "repeated"))
    return Document("T", text, blocks, places, tuple(boxes), "in/side", {"author": "Ada"}, ("a note",))


@pytest.mark.parametrize("words", [20, 900])
def test_what_is_packed_comes_back(words):
    whole = document(words)
    packed = pack(whole, "x")
    assert (text_of(packed.text), blocks_of(packed.map)) == (whole.text, whole.blocks)
    assert places_in(packed.map, *EVERYTHING) == whole.places
    found = boxes_in(packed.boxes, *EVERYTHING)
    assert [(b.start, b.end, b.page) for b in found] == [(b.start, b.end, b.page) for b in whole.boxes]
    for box, was in zip(found, whole.boxes, strict=True):
        edges = ("left", "top", "right", "bottom")
        assert [getattr(box, e) for e in edges] == pytest.approx([getattr(was, e) for e in edges], abs=0.06)
    assert (packed.member, packed.title, packed.facts, packed.notes) == (
        "in/side",
        "T",
        {"author": "Ada"},
        ("a note",),
    )


def test_a_span_has_the_places_and_boxes_that_share_a_character_with_it():
    whole = document()
    packed = pack(whole, "x")
    for start, end in ((0, 1), (7, 60), (500, 501), (len(whole.text) - 1, len(whole.text))):
        expected = [p for p in whole.places if p.start < end and start < p.end]
        assert list(places_in(packed.map, start, end)) == expected
        spans = [(b.start, b.end) for b in whole.boxes if b.start < end and start < b.end]
        assert [(b.start, b.end) for b in boxes_in(packed.boxes, start, end)] == spans


def test_a_box_takes_a_few_bytes():
    packed = pack(document(20_000), "x")
    assert len(packed.boxes) < 6 * 20_000


def test_a_document_without_a_map_takes_none():
    packed = pack(Document("", "text"), "x")
    assert (packed.boxes, boxes_in(packed.boxes, *EVERYTHING), blocks_of(packed.map)) == (b"", (), ())


def test_half_a_character_leaves_all_others_in_place():
    assert text_of(pack(Document("", "a\ud800b"), "x").text) == "a?b"


@pytest.mark.parametrize(
    "wrong",
    [
        {"blocks": (Block(0, 9), Block(8, 12))},
        {"blocks": (Block(3, 3),)},
        {"places": (Place(0, 10_000, "page", "1"),)},
        {"places": (Place(5, 9, "page", "2"), Place(0, 5, "page", "1"))},
        {"boxes": (Box(-1, 4, 1, 0, 0, 1, 1),)},
    ],
)
def test_a_document_that_contradicts_itself_is_refused(wrong):
    with pytest.raises(UnreadableFile, match=r"x\.pdf: its loader contradicts itself: "):
        pack(replace(document(20), **wrong), "x.pdf")


@pytest.mark.parametrize("edge", [float("inf"), float("-inf"), float("nan"), 1e300])
def test_edges_beyond_any_page_are_kept_as_far_as_that_goes(edge):
    packed = pack(replace(document(20), boxes=(Box(0, 3, 1, 0, edge, 1, edge),)), "x")
    assert abs(boxes_in(packed.boxes, 0, 3)[0].top) == 1_000_000


@pytest.mark.parametrize("cut", [0, 1, -1, 20])
def test_what_is_damaged_is_said_and_nothing_else_raised(cut):
    packed = pack(document(50), "x")
    for read in (
        lambda: text_of(packed.text[:cut]),
        lambda: blocks_of(packed.map[:cut]),
        lambda: places_in(packed.map[:cut], *EVERYTHING),
        lambda: boxes_in(packed.boxes[:cut] or b"x", *EVERYTHING),
    ):
        with pytest.raises(ValueError, match=r"."):
            read()


@pytest.mark.parametrize(
    "inside", [b"", b"[]", b"[[[],[]],[]]", b'[[["b",9]],[]]\nxx', b'[[["u",1]],[]]', b"[" * 100_000]
)
def test_a_strangers_map_is_no_more_than_damaged(inside):
    with pytest.raises(ValueError, match=r"."):
        blocks_of(zlib.compress(inside))


def test_words_of_a_line_are_joined_and_columns_are_not():
    words = [
        Box(0, 3, 1, 10, 100, 30, 110),
        Box(4, 7, 1, 33, 101, 60, 111),
        Box(8, 9, 1, 300, 100, 310, 110),  # in the other column
        Box(10, 12, 1, 10, 115, 30, 125),  # on the next line
        Box(13, 15, 2, 33, 115, 60, 125),  # on the next page
    ]
    lines = list(joined_in_lines(words))
    assert lines == [Box(0, 7, 1, 10, 100, 60, 111), *words[2:]]


@pytest.mark.parametrize(("text", "notes", "kept"), [
    ("", (), ("empty",)), (" \n", (), ("empty",)), ("\ufeff", (), ("empty",)),
    ("", ("a note",), ("a note",)), ("text", (), ()),
])  # fmt: skip
def test_a_document_without_text_says_so(text, notes, kept):
    assert pack(Document("", text, notes=notes), "x").notes == kept


@pytest.mark.parametrize(("text", "kinds", "said"), [
    ("Page\n\nPage", ("repeated", "repeated"), True), ("Page\n\nPage", ("repeated", "paragraph"), False),
    ("Page\n\nPage", (), False),
])  # fmt: skip
def test_a_document_of_what_its_pages_repeat_says_so(text, kinds, said):
    blocks = tuple(Block(start, start + 4, kind) for start, kind in zip((0, 6), kinds, strict=False))
    assert pack(Document("", text, blocks=blocks), "x").notes == ((REPEATED,) if said else ())
