"""An answer is quoted as the document has it, from the place that it was copied from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidkit.engine.locating import (
    Place,
    choose,
    in_document,
    in_their_words,
    located,
    occurrences,
    sentence_around,
)
from fidkit.tokens import Tokenizer
from fidkit.train.data.vocabulary import assemble
from fidkit.types import Passage
from oracles import quick, small

TEXT = "In 1900 Giacomo  Puccini's «Tosca» cost 1.5 million. Dr. Café\u0301 said so. Part art of it."


def found(answer: str, text: str = TEXT) -> list[str]:
    return [text[place.start : place.end] for place in occurrences(answer, text)]


@pytest.mark.parametrize(
    ("answer", "quoted"),
    [
        ("giacomo puccini", ["Giacomo  Puccini"]),
        ("1 . 5 million", ["1.5 million"]),
        ("tosca", ["Tosca"]),
        ("« tosca »", ["«Tosca»"]),
        ("art", ["art"]),  # and not in Part
        ("part", ["Part"]),
        ("dr . cafe", ["Dr. Café\u0301"]),
        ("puccini ' s", ["Puccini's"]),
        ("900", []),
        ("verdi", []),
        ("", []),
        (" ", []),
    ],
)
def test_case_accents_and_spaces_are_the_documents(answer: str, quoted: list[str]) -> None:
    assert found(answer) == quoted


def test_letters_that_fold_into_more_keep_their_places() -> None:
    assert found("strasse", "Die STRAẞE, die Straße.") == ["STRAẞE", "Straße"]
    assert found("ffi x", "oﬃ ﬃ x") == ["ﬃ x"]
    assert found("istanbul", "İSTANBUL") == ["İSTANBUL"]


@pytest.mark.parametrize(
    "text", ["It is Moritz B\ufffdauer.", "It is Mo\0ritz Bauer.", "It is Mo\x01ritz\x1f Bauer."]
)
def test_what_vocabularies_leave_out_is_quoted_with_the_rest(text: str) -> None:
    assert found("moritz bauer", text) == [text[6:-1]]


def test_scripts_without_spaces_have_no_words_to_begin_or_end() -> None:
    assert found("東京", "彼は東京都に住む") == ["東京"]


@quick
@given(st.text(max_size=30), st.text(min_size=1, max_size=8), st.text(max_size=30))
def test_what_stands_there_is_found_and_nothing_else(before: str, answer: str, behind: str) -> None:
    text = f"{before} {answer} {behind}"
    places = occurrences(answer, text)
    if any(character.isalnum() for character in answer):
        assert any(place.start <= len(before) + 1 + len(answer) for place in places)
    for place in places:
        assert 0 <= place.start < place.end <= len(text)
        assert occurrences(answer, text[place.start : place.end])


def test_the_place_that_reads_exactly_so_and_then_the_nearest() -> None:
    text = "may May may May"
    places = occurrences("May", text)
    assert [p.start for p in places] == [0, 4, 8, 12]
    assert choose(places, "May", text, None) == Place(4, 7)
    assert choose(places, "May", text, 13) == Place(12, 15)
    assert choose(places, "may", text, 9) == Place(8, 11)
    assert choose([], "may", text, 9) is None


def test_sentences_know_abbreviations() -> None:
    text = "He left. Dr. Smith came at 5 p.m. on Jan. 3. All was well."
    start = text.index("5 p.m.")
    assert sentence_around(text, Place(start, start + 6)) == "Dr. Smith came at 5 p.m. on Jan. 3."


def test_a_sentence_ends_where_the_answer_does() -> None:
    text = "日本の首都は東京です。人口は多い。"
    start = text.index("東京です。")
    assert sentence_around(text, Place(start, start + 5)) == "日本の首都は東京です。"


def test_a_mark_that_closes_what_another_sentence_opened_is_none_of_it() -> None:
    text = "**What is the fee?** The fee is **four** euros. **Late** fees are double."
    assert sentence_around(text, Place(32, 36)) == "The fee is **four** euros."
    assert sentence_around(text, Place(50, 54)) == "**Late** fees are double."


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("| Plan | Price |\n|---|---|\n| Small | *9 euros* |\n| Large | 19 euros |", "| Small | 9 euros |"),
        (
            "Name:    Ada\nPrice:   *9 euros* a month, and not a cent\nLarge:   19 euros",
            "Price:   9 euros a month, and not a cent",
        ),
        (
            "Seen:    at noon, near the old town hall,\n         for *9 euros*, by Ada\nRing:    no",
            "Seen:    at noon, near the old town hall,\n         for 9 euros, by Ada",
        ),
        ("- a dog is allowed\n- it costs *9 euros*\n- a cat is not", "- it costs 9 euros"),
        ("Yours\n\nIt costs *9 euros*\n\nAda", "It costs 9 euros"),
        (
            "It is said that this\ncosts *9 euros* and\nno more. Ada",
            "It is said that this\ncosts 9 euros and\nno more.",
        ),
        (
            "> It is known that this house in the old town, which\n> Ada has let, costs *9 euros* a day. No?",
            "> It is known that this house in the old town, which\n> Ada has let, costs 9 euros a day.",
        ),
        ("server: puffin\nprice: *9 euros*\nlast keeper: Ada", "price: 9 euros"),
        (
            "a key: of a server that is kept in the old town hall\nprice=*9 euros*\nkeeper=Ada",
            "price=9 euros",
        ),
        (
            "It is said in these words\nof hers: it costs *9 euros*",
            "It is said in these words\nof hers: it costs 9 euros",
        ),
        (
            "> It is known that this house in the old town is dear\nIt costs *9 euros*\n> Is it",
            "It costs 9 euros",
        ),
        (
            "> It is known that it costs *9 euros* in the old town\nNo",
            "> It is known that it costs 9 euros in the old town",
        ),
        (
            ">> It is known that this house in the old town is dear\n> it costs *9 euros*",
            "> it costs 9 euros",
        ),
        ("It is closed on all days. It costs *9 euros*. No", "It costs 9 euros."),
        ("Rent:  *9 euros*\nOther: 3 months\nDog:  no", "Rent:  9 euros"),
        (
            "It is said that the house in the old market square, which\nAda has let, costs *9 euros*.",
            "It is said that the house in the old market square, which\nAda has let, costs 9 euros.",
        ),
    ],
)
def test_a_row_or_an_item_is_quoted_alone_and_wrapped_lines_together(text: str, wanted: str) -> None:
    start = text.index("*")
    text = text.replace("*", "")
    assert sentence_around(text, Place(start, start + len("9 euros"))) == wanted


def test_spans_are_of_the_document_where_it_is_known() -> None:
    passage = Passage("1", "", "Tosca is here", "notes/a:b.md:120-133")
    assert in_document(passage, Place(0, 5)) == (120, 125)
    for source in ("passages.tsv", "", "a.md:120-121"):
        assert in_document(Passage("1", "", "Tosca is here", source), Place(0, 5)) == (0, 5)


LETTERS = assemble([(piece, -1.0) for piece in "abcdefgh"])


@pytest.mark.parametrize("title_end", [None, 2])
def test_the_place_is_the_one_that_was_looked_at(title_end: int | None) -> None:
    form = "{title}{text}" if title_end else "title: {title} context: {text}"
    config = small(vocabulary_size=LETTERS.get_vocab_size(), title_end_token=title_end, passage_format=form)
    tokenizer = Tokenizer(LETTERS, config)
    passage = Passage("1", "b a", "c a d a", "x.txt:10-17")
    [ids] = tokenizer.passages([passage])
    starts = [tokenizer.start_of(passage, token) for token in range(len(ids))]
    near_last = max(token for token, start in enumerate(starts) if start is not None)
    assert starts[near_last] in (5, 6)  # the space before a word may be a part of it
    assert starts[0] is None
    other = Passage("2", "A", "no such letter")
    where = located(tokenizer, "a", [other, passage], [0.1, 0.9], [None, near_last])
    assert (where.text, where.verbatim) == ("a", True)
    assert [(e.passage.id, e.place, e.span) for e in where.evidence] == [
        ("1", (6, 7), (16, 17)),
        ("2", None, None),
    ]
    assert where.evidence[0].sentence == "c a d a"
    assert located(tokenizer, "a", [passage], [1.0], [None]).evidence[0].place == (2, 3)


def test_what_stands_nowhere_is_said_and_a_title_counts() -> None:
    passages = [Passage("1", "The Nile", "It flows."), Passage("2", "Tea", "From China, china.")]
    assert in_their_words("the nile", passages) == "The Nile"
    assert in_their_words("china", passages) == "china"
    assert in_their_words("verdi", passages) is None
    tokenizer = Tokenizer(LETTERS, small(vocabulary_size=LETTERS.get_vocab_size()))
    where = located(tokenizer, "verdi", passages, [0.5, 0.5], [None, None])
    assert (where.text, where.verbatim) == ("verdi", False)
    assert all(e.place is None and e.span is None and not e.sentence for e in where.evidence)


def test_a_number_inside_of_another_is_no_place_where_the_whole_one_stands() -> None:
    passages = [Passage("1", "", "The lease begins in 2024."), Passage("2", "", "It has 24 rooms.")]
    tokenizer = Tokenizer(LETTERS, small(vocabulary_size=LETTERS.get_vocab_size()))
    where = located(tokenizer, "24", passages, [0.6, 0.4], [None, None], pieces=True)
    assert where.text == "24"
    assert {e.passage.id: e.place for e in where.evidence} == {"1": None, "2": (7, 9)}
    assert in_their_words("24", passages, pieces=True) == "24"
    assert located(tokenizer, "24", passages[:1], [1.0], [None], pieces=True).text == "2024"


def test_a_piece_ends_with_its_phrase_and_an_answer_in_own_words_stays() -> None:
    passages = [Passage("1", "Fees", "late fee: €4.50\nlost key: €38", "f.txt:100-129")]
    tokenizer = Tokenizer(LETTERS, small(vocabulary_size=LETTERS.get_vocab_size()))
    copied = "€4.50 lost key"
    piece = located(tokenizer, copied, passages, [1.0], [None], pieces=True)
    assert (piece.text, piece.evidence[0].span) == ("€4.50", (110, 115))
    assert located(tokenizer, copied, passages, [1.0], [None]).text == "€4.50\nlost key"
    assert in_their_words("€4.", passages, pieces=True) == "€4.50"
    assert located(tokenizer, "lost k", passages, [1.0], [None], pieces=True).text == "lost key"
    assert not located(tokenizer, "lost k", passages, [1.0], [None]).verbatim
    assert in_their_words("€4.", passages) == "€4."
    assert in_their_words("lost k", passages, pieces=True) == "lost key"
    assert in_their_words("lost k", passages) is None
