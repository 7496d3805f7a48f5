"""The bundled vocabulary: any text comes back, and a word is the same pieces wherever it stands."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidkit.config import ReaderConfig
from fidkit.preset import named
from fidkit.tokens import Tokenizer
from fidkit.train.data.vocabulary import JOINER, SPACE
from fidkit.types import Passage

READER: ReaderConfig = named("tiny-fid")
TOKENIZER = Tokenizer.bundled(READER)
# The joiner and the space mark are the vocabulary's own; both are read as spaces.
RESERVED = {JOINER, SPACE}
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="".join(RESERVED)), max_size=60)
WORDS = ["Amundsen", "radium", "1911", "3,967", "harbour", "Curie", "Łódź", "of"]
PUNCTUATED = st.lists(
    st.sampled_from([*WORDS, " ", " ", "(", ")", '"', ",", ".", "'", "’s", "-", "–", "/", "$", "%", "?", ":"])
).map("".join)


def round_trip(text: str) -> str:
    return TOKENIZER.decode(TOKENIZER.target(text))


def plain(text: str) -> str:
    """`text` with single spaces, in the normal form of the vocabulary."""
    return " ".join(unicodedata.normalize("NFC", text).split())


@given(st.one_of(PUNCTUATED, TEXTS))
def test_text_comes_back_up_to_white_space(text: str) -> None:
    assert plain(round_trip(text)) == plain(text)


@pytest.mark.parametrize(
    "text",
    [
        "Founded (2022), it's 3.5% of $1,000.",
        'He said: "No -- never!" ... and left',
        "the U.S. and St. John's, 10/12/1999",
        "a@b.org, C++; 50–60 km/h 🍵 日本語 naïve",
    ],
)
def test_ordinary_text_comes_back_exactly(text: str) -> None:
    assert round_trip(text) == text


def test_reserved_characters_become_spaces() -> None:
    for character in RESERVED:
        assert round_trip(f"a{character}b") == "a b"


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize(
    "place", ["({})", '"{}"', "{}, and", "in {}.", "«{}»", "{}’s", "now: {}; then", "[{}]?"]
)
def test_a_word_is_the_same_pieces_wherever_it_stands(word: str, place: str) -> None:
    pieces = TOKENIZER.target(word)[:-1]
    tokens = TOKENIZER.target(place.format(word))
    runs = [tokens[i : i + len(pieces)] for i in range(len(tokens))]
    assert pieces in runs


def test_a_question_is_cut_to_what_the_reader_takes_and_says_by_how_much() -> None:
    tight = Tokenizer(TOKENIZER.backend, READER.replace(question_tokens=8))
    long = "who reached the pole before all the others did?"
    whole = TOKENIZER.question(long)
    cut = tight.question(long)
    assert whole.dropped == 0
    assert cut.ids == whole.ids[:8]
    assert cut.dropped == len(whole.ids) - 8 > 0
    assert tight.question("who?").dropped == 0


def test_a_passage_is_cut_before_its_end_of_sequence() -> None:
    tight = Tokenizer(TOKENIZER.backend, READER.replace(passage_tokens=8))
    passage = Passage("p", "Pole", "a text of far more than eight tokens, surely")
    [cut], [whole] = tight.passages([passage]), TOKENIZER.passages([passage])
    assert cut == [*whole[:7], READER.end_token]
    assert whole[-1] == READER.end_token
    assert tight.passages([Passage("p", "", "")])[0][-1] == READER.end_token


@pytest.mark.parametrize("limit", [1, 2, 5, 50, None])
def test_a_target_keeps_its_end_within_the_limit(limit: int | None) -> None:
    whole = TOKENIZER.target("a long answer with many more words than there is room for")
    cut = TOKENIZER.target("a long answer with many more words than there is room for", limit)
    kept = len(whole) if limit is None else min(limit, len(whole))
    assert cut == [*whole[: kept - 1], READER.end_token]


def test_question_and_passage_joined_are_the_text_tokenised_at_once() -> None:
    passage = Passage("p", "South Pole", 'Amundsen ("the last Viking") reached it in 1911.')
    question = TOKENIZER.question("  who reached it first? ")
    [tokens] = TOKENIZER.passages([passage])
    text = f"question: who reached it first? title: {passage.title} context: {passage.text}"
    assert question.ids + tokens == TOKENIZER.target(text)


def test_many_passages_are_each_their_own() -> None:
    passages = [Passage(str(n), f"title {n}", "word " * n) for n in range(5)]
    assert TOKENIZER.passages(passages) == [TOKENIZER.passages([p])[0] for p in passages]
    assert TOKENIZER.passages([]) == []


def test_decoding_stops_at_the_end_and_hides_special_tokens() -> None:
    tokens = TOKENIZER.target("yes")
    assert TOKENIZER.decode([READER.pad_token, *tokens, *TOKENIZER.target("no")]) == "yes"
    assert TOKENIZER.decode([READER.end_token]) == ""


def test_the_fingerprint_changes_with_all_that_changes_a_passages_tokens() -> None:
    def fingerprint(**changes) -> str:
        return Tokenizer(TOKENIZER.backend, READER.replace(**changes)).fingerprint

    base = fingerprint()
    assert base == TOKENIZER.fingerprint
    others = {
        fingerprint(passage_format="{title}: {text}"),
        fingerprint(passage_tokens=100),
        fingerprint(end_token=2),
    }
    assert len(others | {base}) == 4
    # What only concerns questions or weights leaves stored passages as they are.
    assert fingerprint(question_tokens=9, question_format="{question}", dropout=0.0) == base
