"""A cloze can be answered from its context, and only by reading it."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidkit.errors import DataError
from fidkit.train.data import cloze as module
from fidkit.train.data.cloze import (
    ASKS,
    MASK,
    SENTENCE_END,
    STOP_WORDS,
    Cloze,
    ClozeTask,
    Span,
    ask,
    find_spans,
    make_cloze,
    window,
)
from fidkit.train.specs import StageSpec
from fidkit.types import Passage
from train.toy import FACTS, IDS

PASSAGES = [Passage(f"p{i}", title, text, "toy.jsonl") for i, (title, text, *_) in enumerate(FACTS)]
RECURRING = Passage(
    "r",
    "Polar ships",
    "The ship Fram carried Nansen across the frozen Arctic ocean. Later the explorer Amundsen borrowed Fram "
    "for the southern journey. Today visitors find Fram inside a museum near Oslo harbour.",
)
WORDS = st.sampled_from(
    ["Oslo", "the", "1911", "ship", "sailed", "Fram", "of", "3,967", "December", "(so)", "İ"]
)
TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(st.lists(WORDS, min_size=1, max_size=12).map(" ".join), max_size=5).map(". ".join),
)


def clozes(passage: Passage, n: int = 200, **options) -> list[Cloze]:
    settings = {"sentences": None, "noise": 0.5, "removed": 0.0} | options
    made = [make_cloze(passage, random.Random(seed), **settings) for seed in range(n)]
    return [cloze for cloze in made if cloze]


@given(TEXTS, st.integers(0, 99), st.sampled_from([None, 1, 3]), st.sampled_from([0.0, 1.0]))
def test_the_answer_stands_in_the_context_word_for_word(
    text: str, seed: int, sentences: int | None, removed: float
) -> None:
    passage = Passage("p", "Title", text)
    cloze = make_cloze(passage, random.Random(seed), sentences=sentences, noise=0.5, removed=removed)
    if cloze is not None:
        assert cloze.answer.strip() == cloze.answer != ""
        assert cloze.answer in cloze.passage.text
        assert cloze.answer in text
        assert (cloze.passage.id, cloze.passage.title) == ("p", "Title")


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_most_passages_give_clozes(noise: float) -> None:
    for passage in PASSAGES:
        assert len(clozes(passage, 50, noise=noise)) > 10


def test_a_question_is_made_of_the_words_around_its_span() -> None:
    for passage in PASSAGES:
        for cloze in clozes(passage, 50, noise=0.9, masked=0.0):
            first = [asking for asking in sum(ASKS.values(), ()) if cloze.question.lower().startswith(asking)]
            words = cloze.question[len(max(first, key=len)) : -1].split()
            around = [sentence.replace(cloze.answer, " ", 1) for sentence in SENTENCE_END.split(passage.text)]
            assert any(set(words) <= set(re.split(r"[\s]+|[.;]$", s)) for s in around), cloze
            assert sum(len(word) > 3 for word in words) >= 2


def test_without_noise_the_words_keep_their_order() -> None:
    sentence = "Robert Fortune carried young plants to distant gardens."
    question = ask(sentence, Span(0, 14, "name"), random.Random(0), 0.0)
    assert question is not None
    assert question.endswith(" carried young plants to distant gardens?")
    assert question[0].isupper()


def test_a_masked_question_is_the_sentence_with_a_hole() -> None:
    for cloze in clozes(RECURRING, masked=1.0):
        assert cloze.question.replace(MASK, cloze.answer) in SENTENCE_END.split(RECURRING.text)


def test_a_removed_sentence_leaves_its_answer_in_another() -> None:
    sentences = SENTENCE_END.split(RECURRING.text)
    made = clozes(RECURRING, removed=1.0)
    shortened = [cloze for cloze in made if cloze.passage.text != RECURRING.text]
    assert len(shortened) > len(made) / 2
    for cloze in shortened:
        [gone] = [sentence for sentence in sentences if sentence not in cloze.passage.text]
        assert cloze.answer in gone
        assert cloze.answer in cloze.passage.text
        assert MASK not in cloze.question
        # What is asked with stands only in the sentence that is gone.
        telling = {w for w in cloze.question[:-1].split()[1:] if w.lower() not in STOP_WORDS}
        assert len(telling & set(re.findall(r"\w+", gone))) >= 2


def test_nothing_is_removed_where_no_span_recurs() -> None:
    assert all(cloze.passage.text == PASSAGES[0].text for cloze in clozes(PASSAGES[0], removed=1.0))


def test_a_context_is_a_run_of_so_many_sentences() -> None:
    text = RECURRING.text
    for size in (1, 2):
        found = {cloze.passage.text for cloze in clozes(RECURRING, sentences=size)}
        assert all(part in text and len(SENTENCE_END.split(part)) == size for part in found)
        assert len(found) == 4 - size  # every window comes up
    assert {cloze.passage.text for cloze in clozes(RECURRING, sentences=9)} == {text}


@given(st.lists(st.integers(), max_size=6), st.integers(1, 7), st.integers(0, 9))
def test_a_window_is_contiguous(items: list[int], size: int, seed: int) -> None:
    kept = window([str(item) for item in items], random.Random(seed), size)
    assert len(kept) == min(size, len(items))
    starts = range(len(items) - len(kept) + 1)
    assert any(kept == [str(i) for i in items[start : start + len(kept)]] for start in starts)


def test_the_same_draw_gives_the_same_cloze() -> None:
    for passage in PASSAGES:
        assert clozes(passage, 20, removed=0.3) == clozes(passage, 20, removed=0.3)


@pytest.mark.parametrize("text", ["", "Yes.", "a b c. d e f.", "the of and in on at by to it."])
def test_a_text_with_nothing_to_ask_for_gives_none(text: str) -> None:
    assert clozes(Passage("p", "", text)) == []


@given(TEXTS, st.integers(0, 9))
def test_spans_lie_inside_their_sentence(sentence: str, seed: int) -> None:
    for span in find_spans(sentence, random.Random(seed)):
        piece = sentence[span.start : span.end]
        assert 0 <= span.start < span.end <= len(sentence)
        assert piece == piece.strip()
        assert span.kind in ASKS


def test_names_dates_and_numbers_are_found_whole() -> None:
    sentence = "On 1 November 1755 the Duke of Aveiro lost 40,000 books, said Anna, in 1843."
    found = {sentence[s.start : s.end]: s.kind for s in find_spans(sentence, random.Random(1))}
    assert {"1 November 1755", "Duke of Aveiro", "40,000", "Anna", "1843"} <= found.keys()
    assert (found["1843"], found["40,000"], found["Duke of Aveiro"]) == ("date", "number", "name")


# As a task


TOYS = [Passage(i, title, text) for i, (title, text, *_) in zip(IDS, FACTS, strict=True)]


def stage(**settings) -> StageSpec:
    return StageSpec(**{"steps": 1, "mix": {"cloze": 1.0}, **settings})


def test_clozes_read_as_many_passages_as_there_are() -> None:
    task = ClozeTask(TOYS[:2])
    drawn = task.draw(0, random.Random(0), stage(passages=2))
    assert len(drawn.passages) == 2
    assert any(drawn.target in passage.text for passage in drawn.passages)
    assert len(task.draw(0, random.Random(0), stage(passages=9)).passages) == 3


def test_passages_without_a_cloze_are_an_error_and_no_endless_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ATTEMPTS", 50)
    with pytest.raises(DataError, match="50 passages gave no cloze question"):
        ClozeTask([Passage("p", "", "Too short.")]).draw(0, random.Random(0), stage())


def test_no_passages_are_refused() -> None:
    with pytest.raises(DataError, match="no passages to make cloze questions of"):
        ClozeTask([])
