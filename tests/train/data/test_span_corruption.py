"""Span corruption: T5's proportions, nothing lost, and the same at every resume."""

import random
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidkit.errors import ConfigError, CorpusError, DataError
from fidkit.preset import named
from fidkit.tokens import Tokenizer
from fidkit.train.data import span_corruption
from fidkit.train.data.documents import LocalDocuments
from fidkit.train.data.examples import Example
from fidkit.train.data.span_corruption import Sizes, SpanCorruptionTask, corrupt, sentinels_of
from fidkit.train.data.stream import POOL, Stream, load_tasks
from fidkit.train.loop.training import Trainer
from fidkit.train.recipe import Recipe
from fidkit.train.specs import StageSpec, TaskSpec
from oracles import quick
from train.loop.test_training import Killed, assert_same_run, killed_after
from train.toy import FACTS, table_of, world, write_rows

STAGE = StageSpec(steps=1, mix={"text": 1.0})
SENTINELS = list(range(3, 103))
END = 1


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.bundled(named("tiny-fid"))


def spec(**settings: Any) -> TaskSpec:
    return TaskSpec(**{"kind": "span-corruption", "files": ["text"], **settings})


def restored(example: Example) -> list[int]:
    """The text of an example: every sentinel replaced by what the target says of it."""
    [row], spans, sentinel = example.passages, {}, -1
    assert (row[-1], example.target[-1]) == (END, END)
    for token in example.target[:-1]:
        if token in SENTINELS:
            spans[sentinel := token] = []
        else:
            spans[sentinel].append(token)
    assert all(spans.values())
    return [t for token in row[:-1] for t in spans.get(token, [token])]


def example_of(size: int, seed: int, **settings: Any) -> tuple[list[int], Example]:
    tokens = [200 + n for n in range(size)]
    return tokens, corrupt(tokens, Sizes.of(size, spec(**settings)), SENTINELS, END, random.Random(seed))


@quick
@given(
    size=st.integers(2, 400),
    seed=st.integers(0, 99),
    corrupted=st.floats(0.05, 0.6),
    mean_span=st.floats(1.0, 8.0),
)
def test_a_corrupted_text_can_be_restored(size: int, seed: int, corrupted: float, mean_span: float) -> None:
    sizes = Sizes.of(size, spec(corrupted=corrupted, mean_span=mean_span))
    if sizes.spans > len(SENTINELS):
        return
    tokens, example = example_of(size, seed, corrupted=corrupted, mean_span=mean_span)
    assert restored(example) == tokens
    assert example.question == []
    used = [token for token in example.target if token in SENTINELS]
    assert used == [token for token in example.passages[0] if token in SENTINELS] == SENTINELS[: sizes.spans]
    assert (len(example.passages[0]), len(example.target)) == (sizes.inputs, sizes.targets)


def test_t5_reads_512_and_writes_114() -> None:
    sizes = Sizes.filling(spec())
    assert (sizes.raw, sizes.noise, sizes.spans) == (568, 85, 28)
    assert (sizes.inputs, sizes.targets) == (512, 114)


def test_rates_are_those_asked_for() -> None:
    share, lengths, places = [], [], set()
    for seed in range(200):
        tokens, example = example_of(568, seed)
        taken = [token for token in example.target[:-1] if token not in SENTINELS]
        share.append(len(taken) / len(tokens))
        borders = [n for n, token in enumerate(example.target) if token in SENTINELS]
        lengths += [b - a - 1 for a, b in zip(borders, [*borders[1:], len(example.target) - 1], strict=True)]
        places.update(taken)
    assert mean(share) == pytest.approx(0.15, abs=0.001)
    assert mean(lengths) == pytest.approx(3, abs=0.05)
    assert min(lengths) == 1
    assert max(lengths) > 10  # lengths vary, as a random split does
    # All but the first token may be taken: T5's texts begin with what is left.
    assert places == set(range(201, 200 + 568))


def test_the_sentinels_are_the_vocabularys(tokenizer: Tokenizer) -> None:
    assert sentinels_of(tokenizer) == SENTINELS
    with pytest.raises(ConfigError, match="have 114 spans taken out, but the vocabulary has 100 sentinels"):
        SpanCorruptionTask(LocalDocuments(["x"], 0), tokenizer, spec(input_tokens=2048))


# The task


TEXTS = [f"{text} {title} is what this was about." for title, text, *_ in FACTS]


def task_of(tokenizer: Tokenizer, **settings: Any) -> SpanCorruptionTask:
    documents = LocalDocuments(TEXTS, seed=1)
    return SpanCorruptionTask(documents, tokenizer, spec(input_tokens=24, **settings))


def draws(task: SpanCorruptionTask, first: int, count: int) -> list[Example]:
    return [task.draw(n, random.Random(n), STAGE) for n in range(first, first + count)]


def test_documents_are_joined_and_cut_without_losing_a_token(tokenizer: Tokenizer) -> None:
    drawn = draws(task_of(tokenizer), 0, 40)
    assert {(len(e.passages[0]), len(e.target)) for e in drawn} == {(24, 6)}
    joined = [token for example in drawn for token in restored(example)]
    documents = LocalDocuments(TEXTS, seed=1)
    expected = [token for _ in range(5 * len(TEXTS)) for token in tokenizer.encode(documents.next())]
    assert len(expected) > len(joined)
    assert joined == expected[: len(joined)]


@pytest.mark.parametrize("done", [0, 1, 2, 7, 30])
def test_a_restored_task_goes_on_in_the_middle_of_a_document(tokenizer: Tokenizer, done: int) -> None:
    task = task_of(tokenizer)
    draws(task, 0, done)
    state = task.state()
    expected = draws(task, done, 20)
    other = task_of(tokenizer)
    draws(other, 0, 3)  # whatever it has done before
    other.restore(state)
    assert other.state() == state
    assert draws(other, done, 20) == expected


def test_documents_without_a_token_are_passed_over_but_not_for_ever(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = LocalDocuments([" ", *TEXTS, "\n"], seed=0)
    assert draws(SpanCorruptionTask(some, tokenizer, spec(input_tokens=24)), 0, 30)
    monkeypatch.setattr(span_corruption, "EMPTY_IN_A_ROW", 20)
    none = SpanCorruptionTask(LocalDocuments([" "], seed=0), tokenizer, spec())
    with pytest.raises(DataError, match="20 documents in a row have no text"):
        draws(none, 0, 1)


# In a recipe


def text_world(folder: Path, *changes: str) -> Recipe:
    """Pre-training on the toy's passages."""
    settings = [
        "tasks.text={ kind = 'span-corruption', files = ['passages.jsonl'], input_tokens = 24 }",
        "stages=[{ steps = 6, questions = 2, accumulate = 2, mix = { text = 3.0, facts = 1.0 } }]",
        *changes,
    ]
    return world(folder, *settings)


def test_a_stream_with_text_and_questions_is_exact_at_every_resume(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    recipe = text_world(tmp_path)

    def stream() -> Stream:
        return Stream(recipe, load_tasks(recipe, table_of(recipe), tokenizer), tokenizer)

    whole, states, batches = stream(), [], []
    for _ in range(2 * POOL + 3):
        states.append(whole.state())
        batches.append(whole.next(0))
    assert {bool(example.question) for batch in batches for example in batch} == {True, False}
    for done in (0, 3, POOL, POOL + 1, 2 * POOL):
        other = stream()
        other.restore(states[done])
        assert other.state() == states[done]
        assert [other.next(0) for _ in batches[done:]] == batches[done:]


@pytest.mark.slow
def test_a_killed_pretraining_goes_on_bit_by_bit(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    Trainer(text_world(whole)).run()
    with pytest.raises(Killed):
        Trainer(text_world(killed), killed_after(3)).run()
    Trainer(text_world(killed)).run()
    assert_same_run(whole, killed)


@pytest.mark.slow
def test_the_loss_of_restoring_text_falls(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    stages = "stages=[{ steps = 16, questions = 4, mix = { text = 1.0 } }]"
    changes = ["optimiser={ rate = 1e-2, warmup = 5 }", "dropout=0.0", "evaluation.files={}"]
    Trainer(text_world(tmp_path, stages, *changes), rows.append).run()
    losses = [row["loss"] for row in rows]
    assert mean(losses[-4:]) < 0.8 * mean(losses[:3])


@pytest.mark.parametrize(
    ("files", "error", "said"),
    [
        ("[]", ConfigError, "text to restore needs `files` or a `dataset`"),
        ("['missing.jsonl']", CorpusError, "missing.jsonl: no such file or folder"),
        ("['broken.jsonl']", DataError, "broken.jsonl, line 2: expected one JSON object"),
        ("['binary.txt']", DataError, "binary.txt: expected text in UTF-8"),
        ("['empty.txt']", DataError, "no documents to restore text of"),
    ],
)
def test_files_that_cannot_be_read_are_named(
    tmp_path: Path, tokenizer: Tokenizer, files: str, error: type[Exception], said: str
) -> None:
    path = write_rows(tmp_path / "broken.jsonl", [{"text": "a good row"}])
    path.write_text(path.read_text() + "{\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "empty.txt").write_text(" \n")

    def load() -> None:
        recipe = text_world(tmp_path, f"tasks.text.files={files}")
        load_tasks(recipe, table_of(recipe), tokenizer)

    with pytest.raises(error, match=said):
        load()
