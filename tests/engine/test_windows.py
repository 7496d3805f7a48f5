"""Long passages are read whole: windows cover all that a reader would cut off."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berts import bert
from convert.test_bert import load
from fidkit import Answerer, Corpus, Passage
from fidkit.engine.answering import answer_batch
from fidkit.engine.runner import Runner
from fidkit.engine.windows import windows
from fidkit.memory import MemoryStore
from fidkit.precompute import Options, build
from fidkit.preset import named
from fidkit.reader import Reader
from fidkit.tokens import Tokenizer
from oracles import quick

WORDS = ["the", "harbour", "lamp", "is", "red", "and", "every", "boat", "looks", "for", "it", "from", "afar"]
LIMIT = 24


@pytest.fixture(scope="module", params=["t5", "bert"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    if request.param == "t5":
        return Tokenizer.bundled(named("tiny-fid").replace(passage_tokens=LIMIT))
    directory = tmp_path_factory.mktemp("bert")
    bert(directory)
    reader, _ = load(directory)
    return reader.tokenizer.with_config(reader.config.replace(passage_tokens=LIMIT))


def first_part(passage: Passage, tokenizer: Tokenizer) -> int:
    """The character where the reader stops, of the text."""
    lost = tokenizer.length(passage) - tokenizer.config.passage_tokens
    spans = tokenizer.passage_spans(passage.text)
    return spans[len(spans) - lost - 1][1] if lost < len(spans) else 0


@quick
@given(
    words=st.lists(st.sampled_from([*WORDS, "1,284", "€11.7", "été", "x" * 60]), max_size=150),
    title=st.lists(st.sampled_from(WORDS), max_size=30),
    offset=st.integers(0, 500),
)
def test_every_character_is_read_and_no_window_is_cut(
    tokenizer: Tokenizer, words: list[str], title: list[str], offset: int
) -> None:
    text = " ".join(words)
    passage = Passage("p", " ".join(title), text, f"a.md:{offset}-{offset + len(text)}")
    found = windows(passage, tokenizer)
    assert all(tokenizer.length(w) <= LIMIT for w in found)
    if tokenizer.length(passage) <= LIMIT or not text:
        assert not found
        return
    read = first_part(passage, tokenizer)
    for window in found:
        start, end = map(int, window.source.removeprefix("a.md:").split("-"))
        assert text[start - offset : end - offset] == window.text
        assert passage.title.startswith(window.title)
        assert window.id == "p"
        assert start - offset <= read
        read = end - offset
    assert read == len(text.rstrip())


def test_windows_overlap_and_begin_with_words(tokenizer: Tokenizer) -> None:
    passage = Passage("p", "Lamp", " ".join(f"{n} lamps" for n in range(60)), "a.md")
    found = windows(passage, tokenizer)
    assert len(found) >= 3
    for before, window in itertools.pairwise(found):
        start = passage.text.index(window.text)
        assert start < passage.text.index(before.text) + len(before.text)
        assert passage.text[start - 1] == " "
    assert {window.source for window in found} == {"a.md"}  # a place that isn't known stays unknown


def test_a_title_longer_than_the_reader_takes_leaves_room_for_text(tokenizer: Tokenizer) -> None:
    passage = Passage("p", " ".join(WORDS * 4), " ".join(WORDS), "")
    found = windows(passage, tokenizer)
    assert found[0].text.startswith("the harbour")
    assert all(window.title and len(window.title) < len(passage.title) / 2 for window in found)


def reader_of(preset: str) -> Reader:
    short = Reader.from_preset(preset)
    config = short.config.replace(passage_tokens=40)
    reader = Reader(config, Tokenizer.bundled(config)).eval()
    reader.load_state_dict(short.state_dict())
    return reader


@pytest.mark.parametrize("preset", ["tiny-fid", "tiny-lumen", "tiny-glimmer"])
def test_an_answer_is_read_from_all_windows(preset: str) -> None:
    reader = reader_of(preset)
    long = Passage("long", "Lamp", " ".join(WORDS * 5), "a.md")
    short = Passage("short", "Nile", "The Nile flows north.", "b.md")
    answer = Answerer(reader, precision="as-is").read("what is red?", [long, short], 4)
    pieces = windows(long, reader.tokenizer)
    assert len(pieces) > 1
    assert {(e.passage.id, e.passage.text) for e in answer.evidence} == {
        (p.id, p.text) for p in (long, short, *pieces)
    }
    given = Answerer(reader, precision="as-is").read("what is red?", [long, short, *pieces], 4)
    assert replace(answer, timings_ms={}) == replace(given, timings_ms={})


def test_a_stored_memory_is_used_and_windows_are_not_missed(tmp_path: Path) -> None:
    reader = reader_of("tiny-lumen")
    reader.save_pretrained(tmp_path / "reader")
    record = {"id": "1", "title": "Lamp", "text": " ".join(WORDS * 5)}
    (tmp_path / "lamp.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    with Corpus.build(tmp_path / "lamp.jsonl", tmp_path / "corpus") as corpus:
        build(corpus, tmp_path / "reader", Options(codec="float32", device="cpu", precision="float32"))
        passages = corpus.search("harbour lamp", 1)
        passages = [hit.passage for hit in passages]
        with MemoryStore.open(tmp_path / "corpus") as memory:
            runner = Runner(reader)
            (stored,) = answer_batch(runner, ["what is red?"], [passages], memory=memory)
            other = replace(passages[0], text=" ".join(WORDS[::-1] * 5))
            (lacking,) = answer_batch(runner, ["what is red?"], [[other]], memory=memory)
        (fresh,) = answer_batch(runner, ["what is red?"], [passages])
    assert len(lacking.evidence) == 1 + len(windows(other, reader.tokenizer)) > 2
    assert len(stored.evidence) > 2
    assert stored.notes == ()
    assert stored.text == fresh.text
    assert stored.score == pytest.approx(fresh.score, abs=1e-4)
