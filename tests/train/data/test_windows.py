"""Passages that are longer than the reader takes keep the answer, and what was cut is counted."""

import random

import pytest

from fidkit.preset import named
from fidkit.tokens import Tokenizer
from fidkit.train.data.examples import Drawn, encode
from fidkit.train.data.windows import occurrences, read_around
from fidkit.train.loop.meter import count
from fidkit.types import Passage

LIMIT = 32
CONFIG = named("tiny-fid").replace(passage_tokens=LIMIT, question_tokens=8)
WORDS = ["ship", "left", "harbour", "early", "nobody", "board", "knew", "far", "south", "winter", "ice"]
ANSWER = "December 1911"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.bundled(CONFIG)


def passage(before: int, after: int, answer: str = ANSWER) -> Passage:
    """A text with the answer between so many words."""
    filler = (WORDS * 20)[: before + after]
    return Passage("p", "Fram", " ".join([*filler[:before], answer, *filler[before:]]))


def places(tokenizer: Tokenizer, read: Passage, answer: str = ANSWER, tries: int = 40) -> set[int]:
    wanted, found = tokenizer.encode(answer), set()
    head = tokenizer.passages([Passage("", "Fram", "")])[0][:-1]
    for seed in range(tries):
        [row], cut = read_around([read], answer, tokenizer, random.Random(seed))
        assert (len(row) <= LIMIT, cut, row[-1]) == (True, 1, CONFIG.end_token)
        assert row[: len(head)] == head
        found |= set(occurrences(row, wanted)) or {-1}
    return found


@pytest.mark.parametrize(("before", "after"), [(40, 0), (40, 40), (25, 3)])
def test_an_answer_behind_the_cut_is_read_in_any_place_of_a_piece(
    tokenizer: Tokenizer, before: int, after: int
) -> None:
    found = places(tokenizer, passage(before, after))
    assert -1 not in found
    assert len(found) > 5


def test_an_answer_is_held_where_a_cut_text_has_more_tokens(tokenizer: Tokenizer) -> None:
    marks = ["(3.5)-[1,000]/'tis.", "«Żółć»", "№42;", "%x"]
    read = Passage("p", "Fram", " ".join([*marks * 6, ANSWER, *marks * 6]))
    assert -1 not in places(tokenizer, read, tries=200)


def test_an_answer_before_the_cut_is_read_as_in_answering(tokenizer: Tokenizer) -> None:
    read = passage(3, 60)
    [row], cut = read_around([read], ANSWER, tokenizer, random.Random(0))
    assert ([row], cut) == (tokenizer.passages([read]), 1)


def test_the_answer_may_be_written_in_another_case(tokenizer: Tokenizer) -> None:
    [row], _ = read_around([passage(40, 5)], "december 1911", tokenizer, random.Random(0))
    assert occurrences(row, tokenizer.encode(ANSWER))


@pytest.mark.parametrize("answer", ["", "Nowhere", " ".join(WORDS * 2)])
def test_what_can_not_be_kept_is_cut_at_its_end(tokenizer: Tokenizer, answer: str) -> None:
    read = [passage(40, 5), passage(2, 2)]
    rows, cut = read_around(read, answer, tokenizer, random.Random(0))
    assert (rows, cut) == (tokenizer.passages(read), 1)


def test_texts_that_lost_tokens_are_counted(tokenizer: Tokenizer) -> None:
    read, rng = [passage(40, 5), passage(50, 50), passage(1, 1)], random.Random(0)
    example = encode(Drawn(" ".join(WORDS), ANSWER, read), tokenizer, 24, rng)
    short = encode(Drawn("when?", ANSWER, read[2:]), tokenizer, 24, rng)
    assert (example.cut, short.cut) == (3, 0)
    assert count([example, short, example])["cut"] == 6
