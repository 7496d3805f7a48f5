"""Recurring spans: the answer stands in what is read, and not in what is asked."""

import random
from pathlib import Path

import pytest

from fidkit.errors import DataError
from fidkit.preset import named
from fidkit.tokens import Tokenizer
from fidkit.train.data import recurring
from fidkit.train.data.cloze import MASK
from fidkit.train.data.recurring import RecurringTask, mask, salient_spans
from fidkit.train.data.stream import load_tasks
from fidkit.train.loop.training import Trainer
from fidkit.train.specs import StageSpec
from fidkit.types import Passage
from train.toy import table_of, world, write_rows

TEXTS = [
    (
        "South Pole",
        "The South Pole was reached first by Roald Amundsen on 14 December 1911. It is cold there.",
    ),
    (
        "Fram",
        "The ship Fram took Roald Amundsen south. He stood at the South Pole in the summer of the year.",
    ),
    (
        "Oslo",
        "The museum in Oslo keeps a ship that Roald Amundsen sailed. Fridtjof Nansen had built it before.",
    ),
    (
        "Nansen",
        "The explorer Fridtjof Nansen crossed Greenland. His ship later went to Roald Amundsen.",
    ),
    ("Scott", "The captain Robert Scott came to the South Pole too late. Nobody of his party returned home."),
    (
        "Tea",
        "The plant came from China and was a medicine first. Nobody knows who was the first to drink it.",
    ),
]
PASSAGES = [Passage(f"p{n}", title, text) for n, (title, text) in enumerate(TEXTS)]


def stage(passages: int = 3) -> StageSpec:
    return StageSpec(steps=1, mix={"recurring": 1.0}, passages=passages)


def test_names_and_dates_are_salient() -> None:
    found = salient_spans(TEXTS[0][1])
    assert {"South Pole", "Roald Amundsen", "14 December 1911"} <= found
    assert not {"first", "It", "14"} & found
    assert salient_spans("It had 12 of 300 people in 1911, most in May.") == {"1911"}


@pytest.mark.parametrize("count", [1, 2, 4, 20])
def test_a_question_is_answered_by_other_passages_than_its_own(count: int) -> None:
    task = RecurringTask(PASSAGES)
    answers = set()
    for n in range(100):
        drawn = task.draw(n, random.Random(n), stage(count))
        answers.add(drawn.target)
        assert MASK in drawn.question
        assert drawn.target not in drawn.question
        holding = [p for p in drawn.passages if drawn.target in p.text]
        assert holding
        read = {p.id for p in drawn.passages}
        assert len(read) == len(drawn.passages) <= min(count, len(PASSAGES) - 1)
        # The sentence asked about is of none of them.
        rest = drawn.question.split(": ", 1)[-1].replace(MASK, drawn.target)
        assert not any(rest in p.text for p in drawn.passages)
        assert any(rest in p.text for p in PASSAGES)
        # Something else says which passage is meant.
        words = set(drawn.question.replace(MASK, " ").replace(":", " ").split()) - {"The", "the", "of", "a"}
        assert any(words & set(f"{p.title} {p.text}".replace(".", "").split()) for p in holding)
    assert {"Roald Amundsen", "South Pole"} <= answers


def test_draws_are_a_function_of_their_random_numbers() -> None:
    one, other = RecurringTask(PASSAGES), RecurringTask(PASSAGES)
    for n in (5, 0, 3):
        assert one.draw(n, random.Random(n), stage()) == other.draw(9, random.Random(n), stage())
    assert len({one.draw(0, random.Random(n), stage()).question for n in range(30)}) > 2


def test_every_mention_is_masked_and_a_long_sentence_cut() -> None:
    words = " ".join(f"w{n}" for n in range(40))
    assert mask("Ada met Ada.", "Ada") == f"{MASK} met {MASK}."
    assert mask("Ada wrote.", "Ada", "Engine") == f"Engine: {MASK} wrote."
    cut = mask(f"{words} Ada Lovelace {words}", "Ada Lovelace")
    assert cut == f"{' '.join(words.split()[28:])} {MASK} {' '.join(words.split()[:12])}"


def test_passages_with_nothing_in_common_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="2 passages have no name or date in common"):
        RecurringTask([PASSAGES[5], PASSAGES[4]])
    monkeypatch.setattr(recurring, "ATTEMPTS", 20)
    alike = [
        Passage("a", "", "A letter by Ada Lovelace was found."),
        Passage("b", "", "It was Ada Lovelace, he said."),
    ]
    with pytest.raises(DataError, match="20 passages gave no question about a span that recurs"):
        RecurringTask(alike).draw(0, random.Random(0), stage())


def test_a_span_that_stands_everywhere_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurring, "MOST_PASSAGES", 3)
    task = RecurringTask(PASSAGES)
    assert "Roald Amundsen" not in {task.draw(n, random.Random(n), stage()).target for n in range(60)}


def recurring_world(folder: Path, *changes: str):
    stages = "stages=[{ steps = 2, questions = 2, passages = 3, mix = { recurring = 1.0 } }]"
    recipe = world(folder, "tasks.recurring.kind=recurring", stages, *changes)
    write_rows(folder / "passages.jsonl", [{"id": p.id, "title": p.title, "text": p.text} for p in PASSAGES])
    return recipe


def test_held_out_pages_are_neither_asked_about_nor_read(tmp_path: Path) -> None:
    def drawn(held_out: str) -> tuple[set[str], bool]:
        recipe = recurring_world(tmp_path, f"held_out=[{held_out}]")
        write_rows(tmp_path / "held.jsonl", [{"question": "?", "answers": ["x"], "positive_ids": ["p2"]}])
        tokenizer = Tokenizer.bundled(named("tiny-fid"))
        task = load_tasks(recipe, table_of(recipe), tokenizer)["recurring"]
        examples = [task.draw(n, random.Random(n), stage(5)) for n in range(60)]
        read = {p.id for one in examples for p in one.passages}
        return read, any("museum" in one.question or "built it" in one.question for one in examples)

    assert "p2" in drawn("")[0]
    assert drawn("'held.jsonl'") == ({"p1", "p3", "p4", "p5"}, False)  # p0 alone is asked about


def test_a_reader_is_trained_on_recurring_spans(tmp_path: Path) -> None:
    rows: list[dict] = []
    Trainer(recurring_world(tmp_path, "evaluation.files={}"), rows.append).run()
    assert [row["step"] for row in rows] == [1, 2]
    assert all(row["loss"] > 0 for row in rows)
