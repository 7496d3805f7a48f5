import io
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidkit.passages.load.cutting import TAIL_WORDS, WORDS, cut_markdown, cut_text, title_of
from fidkit.passages.load.rows import UnreadableDocument, read_document

words = st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"]), min_size=1, max_size=12)
texts = st.lists(
    st.tuples(words, st.sampled_from([" ", "\n", "\n\n", "\r\n", "\t ", "\n# ", "\n```\n"])), max_size=400
)
documents = texts.map(lambda parts: "".join(word + space for word, space in parts))
cutters = pytest.mark.parametrize("cut", [cut_text, cut_markdown])


@cutters
@given(document=documents)
def test_pieces_hold_every_word_once_and_never_overlap(cut, document):
    pieces = list(cut(document))
    kept = "".join(document[piece.start : piece.end] for piece in pieces)
    assert re.sub(r"\s", "", kept) == re.sub(r"\s", "", document)
    assert all(before.end <= after.start for before, after in pairwise(pieces))
    assert all(document[p.start : p.end].strip() == document[p.start : p.end] != "" for p in pieces)


@cutters
@given(document=documents)
def test_pieces_are_neither_long_nor_scraps(cut, document):
    counts = [len(document[piece.start : piece.end].split()) for piece in cut(document)]
    assert all(count < WORDS + TAIL_WORDS for count in counts)
    assert len(counts) < 2 or min(counts) >= TAIL_WORDS


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, []), (1, [1]), (100, [100]), (124, [124]), (125, [100, 25]), (324, [100, 100, 124])],
)
def test_plain_text_is_cut_every_hundred_words(count, expected):
    document = " ".join(f"w{n}" for n in range(count))
    assert [len(document[p.start : p.end].split()) for p in cut_text(document)] == expected


def test_markdown_is_cut_at_sections_then_paragraphs():
    section = "\n\n".join(["word " * 29 + "end."] * 3)
    document = f"# Guide\n\n{section}\n\n## Usage\n\n{section}\n\n{section}\n"
    pieces = list(cut_markdown(document))
    assert [piece.section for piece in pieces] == ["Guide", "Usage", "Usage"]
    assert all(document[piece.start : piece.end].endswith("end.") for piece in pieces)


def test_a_comment_in_code_is_no_heading():
    assert title_of("```sh\n# install\n```\n\n# **Real** #\n") == "Real"
    assert title_of("~~~\n# no\n```\n# still no\n~~~\n") == ""


def test_text_without_spaces_is_cut_too():
    pieces = list(cut_text("茶" * 5000))
    assert len(pieces) > 5
    assert max(piece.end - piece.start for piece in pieces) < 1000


def test_offsets_count_characters_of_the_file_as_it_is():
    data = "\ufeffZoë naïve\r\n\r\n茶 and 🍵 tea".encode()
    (row,) = read_document(io.BytesIO(data), "notes/x.txt")
    assert (row.id, row.title, row.text) == ("notes/x.txt#1", "x", "Zoë naïve\r\n\r\n茶 and 🍵 tea")
    assert data.decode("utf-8")[row.start : row.end] == row.text


def test_markdown_is_titled_by_document_and_section():
    body = "word " * 90
    rows = list(read_document(io.BytesIO(f"# Guide\n\n{body}\n## Usage\n\n{body}".encode()), "g.md"))
    assert [row.title for row in rows] == ["Guide", "Guide: Usage"]


@pytest.mark.parametrize("data", [b"\xff\xfe\x00t", b"caf\xe9", b"PK\x00\x00"])
def test_what_is_no_text_is_refused(data):
    with pytest.raises(UnreadableDocument):
        list(read_document(io.BytesIO(data), "x.txt"))
