"""Training examples: what is drawn, and that it is the same at every resume."""

import random
from pathlib import Path

import pytest

from fidkit.config import ReaderConfig
from fidkit.errors import DataError
from fidkit.preset import named
from fidkit.tokens import Tokenizer
from fidkit.train.data.examples import Drawn, Example, encode
from fidkit.train.data.stream import POOL, Stream, load_tasks
from fidkit.train.recipe import Recipe
from fidkit.train.specs import StageSpec
from fidkit.types import Passage
from train.toy import FACTS, IDS, table_of, world, write_rows

READER: ReaderConfig = named("tiny-fid")
PASSAGES = [Passage(i, title, text) for i, (title, text, *_) in zip(IDS, FACTS, strict=True)]
TEA = PASSAGES[3]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.bundled(READER)


def stage(**settings) -> StageSpec:
    return StageSpec(**{"steps": 1, "mix": {"facts": 1.0}, **settings})


# The stream


def stream_of(recipe: Recipe, tokenizer: Tokenizer) -> Stream:
    return Stream(recipe, load_tasks(recipe, table_of(recipe), tokenizer), tokenizer)


# Crosses the border between the stages in the middle of a pool, and comes back.
STAGES = [0] * (POOL + 3) + [1] * (POOL + 2) + [0] * 3


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return world(tmp_path)


def batches(stream: Stream, stages: list[int]) -> list[list[Example]]:
    return [stream.next(number) for number in stages]


def test_a_restored_stream_goes_on_with_the_batches_that_would_have_come(
    recipe: Recipe, tokenizer: Tokenizer
) -> None:
    stream, states, seen = stream_of(recipe, tokenizer), [], []
    for number in STAGES:
        states.append(stream.state())
        seen.append(stream.next(number))
    for done in range(len(STAGES)):
        other = stream_of(recipe, tokenizer)
        other.restore(states[done])
        assert other.state() == states[done]
        some = slice(done, done + POOL + 1)
        assert batches(other, STAGES[some]) == seen[some]


def test_the_stream_is_a_function_of_the_seed(recipe: Recipe, tokenizer: Tokenizer) -> None:
    first = batches(stream_of(recipe, tokenizer), STAGES)
    assert batches(stream_of(recipe, tokenizer), STAGES) == first
    assert batches(stream_of(recipe.replace(seed=4), tokenizer), STAGES) != first


def test_a_pool_is_sorted_by_length_and_its_batches_shuffled(tmp_path: Path, tokenizer: Tokenizer) -> None:
    recipe = world(tmp_path, "stages=[{ steps = 1, questions = 3, mix = { cloze = 1.0 } }]")
    pool = batches(stream_of(recipe, tokenizer), [0] * POOL)
    assert {len(batch) for batch in pool} == {3}
    spans = [(batch[0].longest, batch[-1].longest) for batch in pool]
    assert spans != sorted(spans)
    ordered = [length for span in sorted(spans) for length in span]
    assert ordered == sorted(ordered)


def test_a_mix_draws_its_tasks_by_weight(recipe: Recipe, tokenizer: Tokenizer) -> None:
    stream = stream_of(recipe.replace(stages=[{"steps": 1, "mix": {"cloze": 3, "facts": 1}}]), tokenizer)
    batches(stream, [0] * POOL)
    drawn = stream._counts
    assert sum(drawn.values()) == 28 * POOL
    assert drawn["cloze"] / drawn["facts"] == pytest.approx(3, rel=0.4)


def test_a_target_that_is_too_long_is_never_cut(recipe: Recipe, tokenizer: Tokenizer) -> None:
    drawn = Drawn("who?", "a very long answer of many words", [TEA])
    whole = encode(drawn, tokenizer, 24, random.Random(0))
    assert whole is not None
    assert whole.target == tokenizer.target(drawn.target)
    assert encode(drawn, tokenizer, len(whole.target), random.Random(0)) == whole
    assert encode(drawn, tokenizer, len(whole.target) - 1, random.Random(0)) is None


class Growing:
    """A task whose every third target is long."""

    def draw(self, number: int, rng: random.Random, stage: StageSpec) -> Drawn:
        return Drawn(f"{number}?", "yes" if number % 3 else "no, for a reason of many words", [TEA])


def test_the_stream_draws_again_where_a_target_is_too_long(recipe: Recipe, tokenizer: Tokenizer) -> None:
    recipe = recipe.replace(
        stages=[{"steps": 1, "questions": 3, "mix": {"facts": 1}}], target_tokens=len(tokenizer.target("yes"))
    )
    stream = Stream(recipe, {"facts": Growing()}, tokenizer)
    drawn = [example for batch in batches(stream, [0] * POOL) for example in batch]
    asked = {tuple(example.question) for example in drawn}
    short = [n for n in range(9 * POOL) if n % 3][: 3 * POOL]
    assert asked == {tuple(tokenizer.question(f"{n}?").ids) for n in short}
    assert len(drawn) == len(asked)
    with pytest.raises(DataError, match="1,000 examples in a row have targets of more than 2 tokens"):
        Stream(recipe.replace(target_tokens=2), {"facts": Growing()}, tokenizer).next(0)


# Loading


def test_held_out_pages_never_appear_in_clozes(tmp_path: Path, tokenizer: Tokenizer) -> None:
    recipe = world(tmp_path, "held_out=['held.jsonl']")
    positive = {"question": "?", "answers": ["x"], "positive_ids": ["p0", "p4"]}
    write_rows(tmp_path / "held.jsonl", [positive])
    # A page has many passages; all of them are held out.
    rows = [{"id": p.id, "title": p.title, "text": p.text} for p in PASSAGES]
    write_rows(tmp_path / "passages.jsonl", [*rows, {**rows[0], "id": "p0b"}])
    task = load_tasks(recipe, table_of(recipe), tokenizer)["cloze"]
    drawn = [task.draw(n, random.Random(n), stage(passages=3)) for n in range(100)]
    seen = {passage.id for one in drawn for passage in one.passages}
    assert seen == set(IDS) - {"p0", "p4"}


def test_empty_tasks_are_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    recipe = world(tmp_path, "tasks.facts.where={ kind = ['other'] }")
    with pytest.raises(DataError, match="no questions left"):
        load_tasks(recipe, table_of(recipe), tokenizer)
