"""What is read beside a positive passage, and in its place where there is no answer."""

import random
from collections import Counter
from pathlib import Path

import pytest

from fidkit.errors import ConfigError, DataError
from fidkit.preset import named
from fidkit.tokens import Tokenizer
from fidkit.train.data.joined import TrainingQuestion
from fidkit.train.data.questions import QuestionTask
from fidkit.train.data.stream import Stream, load_tasks
from fidkit.train.losses.auxiliary import find_places
from fidkit.train.specs import StageSpec, TaskSpec
from fidkit.types import Passage
from train.toy import FACTS, table_of, world, write_rows


def p(name: str, text: str = "nothing") -> Passage:
    return Passage(name, "", f"{name}: {text}")


def question(name: str, **settings) -> TrainingQuestion:
    return TrainingQuestion(name, **{"targets": ("x",), "positives": (), "ranked": ()} | settings)


def stage(**settings) -> StageSpec:
    return StageSpec(**{"steps": 1, "mix": {"facts": 1.0}, **settings})


def ids(read) -> list[str]:
    return [passage.id for passage in read]


RANKED = tuple(p(f"r{n}") for n in range(12))
GOLD = p("gold", "x")


def drawn(task: QuestionTask, of: StageSpec, tries: int = 200) -> list[list[str]]:
    return [ids(task.draw(0, random.Random(n), of).passages) for n in range(tries)]


# Beside a positive passage


def test_half_of_the_time_the_hardest_are_read() -> None:
    task = QuestionTask([question("q", positives=(GOLD,), ranked=(RANKED[0], GOLD, *RANKED[1:]))], seed=0)
    read = drawn(task, stage(passages=4, hardest=0.5), 400)
    assert all(len(set(one)) == 4 and "gold" in one for one in read)
    hardest = [one for one in read if set(one) == {"gold", "r0", "r1", "r2"}]
    assert 160 < len(hardest) < 245
    assert {name for one in read for name in one} == {"gold", *(f"r{n}" for n in range(12))}
    assert Counter(one.index("gold") for one in read).keys() == {0, 1, 2, 3}
    always = drawn(task, stage(passages=4, hardest=1.0))
    assert {frozenset(one) for one in always} == {frozenset({"gold", "r0", "r1", "r2"})}
    deep = QuestionTask([question("q", positives=(GOLD,), ranked=tuple(p(f"r{n}") for n in range(90)))], 0)
    assert {name for one in drawn(deep, stage(passages=4)) for name in one} <= {
        "gold", *(f"r{n}" for n in range(12)),
    }  # fmt: skip


def task_of_documents() -> QuestionTask:
    asked = [
        question("q", positives=(GOLD,), ranked=(GOLD,), document="a"),
        question("same", positives=(p("a1"),), ranked=(p("a1"), p("a2")), document="a"),
        *(question(f"other {n}", positives=(p(f"b{n}"),), document=f"b{n}") for n in range(9)),
    ]
    task = QuestionTask(asked, seed=0)
    task.seed = next(seed for seed in range(99) if _first(asked, seed) == "q")
    return task


def _first(asked: list[TrainingQuestion], seed: int) -> str:
    order = list(range(len(asked)))
    random.Random(f"{seed}/0").shuffle(order)
    return asked[order[0]].question


def test_too_few_are_filled_with_those_of_the_document_then_with_others() -> None:
    task = task_of_documents()
    assert {tuple(one) for one in drawn(task, stage(passages=5))} == {("gold",)}
    two = drawn(task, stage(passages=2, fill=True))
    assert {frozenset(one) for one in two} == {frozenset({"gold", "a1"}), frozenset({"gold", "a2"})}
    five = drawn(task, stage(passages=5, fill=True))
    assert all(len(set(one)) == 5 and {"gold", "a1", "a2"} <= set(one) for one in five)
    assert {name for one in five for name in one} == {"gold", "a1", "a2", *(f"b{n}" for n in range(9))}
    assert {one.index("gold") for one in five} == {0, 1, 2, 3, 4}
    # No more than there are; ranked ones are filled up, too, with none that is positive.
    assert len(drawn(task, stage(passages=40, fill=True), 1)[0]) <= 12
    ranked = drawn(task, stage(passages=3, fill=True, context="retrieved"))
    assert {frozenset(one) for one in ranked} == {frozenset({"gold", "a1", "a2"})}


# Without an answer


NEAR = (p("near0"), p("near1"), p("near2"))


def without(kind: str, count: int, **settings) -> list[list[str]]:
    asked = question("q", targets=("",), **settings)
    task = QuestionTask([asked, question("other", positives=(p("far"),))], 0, unanswerable=[kind])
    task.seed = next(seed for seed in range(99) if _first([asked, *task.questions[1:]], seed) == "q")
    read = [task.draw(0, random.Random(n), stage(passages=count)) for n in range(60)]
    assert {(one.question, one.target) for one in read} == {("q", "")}
    return [ids(one.passages) for one in read]


def test_near_passages_come_first_then_retrieved_ones() -> None:
    fields = {"near": NEAR, "ranked": (NEAR[1], *RANKED)}
    assert {name for [name] in without("near", 1, **fields)} == {"near0", "near1", "near2"}
    five = without("near", 5, **fields)
    assert {frozenset(one) for one in five} == {frozenset({"near0", "near1", "near2", "r0", "r1"})}
    assert len({tuple(one) for one in five}) > 20


def test_retrieved_passages_are_read_without_those_that_hold_an_answer() -> None:
    fields = {"positives": (GOLD,), "answers": ("x", "South Pole"), "near": NEAR}
    ranked = (p("r0"), GOLD, p("r1", "the south pole!"), p("r2"), p("r3"))
    assert {frozenset(one) for one in without("retrieved", 3, ranked=ranked, **fields)} == {
        frozenset({"r0", "r2", "r3"})
    }
    # Too few are filled up with foreign ones.
    assert {frozenset(one) for one in without("retrieved", 4, ranked=ranked, **fields)} == {
        frozenset({"r0", "r2", "r3", "far"})
    }


def test_foreign_passages_are_of_other_questions_and_hold_no_answer() -> None:
    assert {tuple(one) for one in without("foreign", 1, ranked=RANKED, near=NEAR)} == {("far",)}
    assert {tuple(one) for one in without("foreign", 1, answers=("nothing",))} == {("",)}


def test_foreign_passages_are_of_other_documents() -> None:
    asked = [question(n, targets=("",), positives=(p(n),), document=n[0]) for n in ("a1", "a2", "b1", "b2")]
    task = QuestionTask(asked, seed=0, unanswerable=["foreign"])
    read = [task.draw(n, random.Random(n), stage()) for n in range(60)]
    pairs = {(one.question, one.passages[0].id) for one in read}
    assert pairs == {(q, f) for q in ("a1", "a2") for f in ("b1", "b2")} | {
        (q, f) for q in ("b1", "b2") for f in ("a1", "a2")
    }


def test_passages_of_the_document_are_near_where_no_others_are() -> None:
    asked = [
        question("q", targets=("",), positives=(GOLD,), document="a"),
        question("same", targets=("",), positives=(p("a1"),), document="a"),
        question("other", targets=("",), positives=(p("b"),), document="b"),
    ]
    task = QuestionTask(asked, seed=0, unanswerable=["near"])
    read = [task.draw(n, random.Random(n), stage()) for n in range(30)]
    assert {one.passages[0].id for one in read if one.question == "q"} == {"a1"}
    assert {one.passages[0].id for one in read if one.question == "same"} == {"gold"}
    assert {one.passages[0].id for one in read if one.question == "other"} == {"gold", "a1"}


UNANSWERABLE = [
    {"id": "u0", "question": "who sank it?", "answers": [], "target": "", "near_ids": ["p0", "gone"]},
    {"id": "u1", "question": "why?", "answers": [], "positive_ids": [], "near_ids": ["p3"], "doc": "tea"},
    {"id": "qp1", "question": "where was she born?", "answers": ["Warsaw"], "positive_ids": ["p1"]},
]


def unanswerable(folder: Path, *kinds: str) -> list[str]:
    path = write_rows(folder / "un.jsonl", UNANSWERABLE)
    return [f"tasks.facts.files=['{path}']", f"tasks.facts.unanswerable={list(kinds)}"]


def test_a_task_says_that_its_questions_have_no_answer(tmp_path: Path) -> None:
    recipe = world(tmp_path)
    changed = world(tmp_path, *unanswerable(tmp_path, "near"), "stages.0.mix={ facts = 1.0 }")
    tokenizer, notes = Tokenizer.bundled(named("tiny-fid")), list[str]()
    task = load_tasks(changed, table_of(recipe), tokenizer, notes.append)["facts"]
    read = {(one.question, one.target) for n in range(9) if (one := task.draw(n, random.Random(n), stage()))}
    assert notes == []
    assert read == {(row["question"], "") for row in UNANSWERABLE}
    of_first = [task.draw(n, random.Random(n), stage()) for n in range(30)]
    assert {one.passages[0].id for one in of_first if one.question == "who sank it?"} == {"p0"}
    [examples] = [Stream(changed, {"facts": task}, tokenizer).next(0)]
    assert {tuple(e.target) for e in examples} == {(tokenizer.config.end_token,)}
    # Nothing is there to look at.
    assert not len(find_places([e.passages for e in examples], [e.target for e in examples]).question)


def test_otherwise_they_are_refused_as_ever(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "un.jsonl", UNANSWERABLE[:2])
    recipe = world(tmp_path, f"tasks.facts.files=['{path}']")
    with pytest.raises(DataError, match="2 of 2 questions left out: 2 without answers"):
        load_tasks(recipe, table_of(recipe), Tokenizer.bundled(named("tiny-fid")))


@pytest.mark.parametrize("change", [{"kind": "cloze"}, {"verbatim": True}, {"unanswerable": ["far"]}])
def test_what_makes_no_sense_is_refused(tmp_path: Path, change: dict) -> None:
    with pytest.raises((ConfigError, ValueError), match="unanswerable"):
        TaskSpec(**{"kind": "questions", "files": ["x"], "unanswerable": ["near"]} | change)


def test_questions_outside_the_corpus_bring_their_passage_and_document(tmp_path: Path) -> None:
    rows = [
        {
            "id": f"x{n}", "question": q, "answers": a, "target": a[0], "positive_ids": [f"x:{n}"],
            "doc": f"d{n // 2}", "ctxs": [{"id": f"x:{n}", "title": "", "text": text}],
        }
        for n, (_, text, q, a) in enumerate(FACTS)
    ]  # fmt: skip
    path = write_rows(tmp_path / "extra.jsonl", rows)
    recipe = world(tmp_path, f"tasks.facts.files=['{path}']", "tasks.facts.verbatim=true")
    task = load_tasks(recipe, table_of(recipe), Tokenizer.bundled(named("tiny-fid")))["facts"]
    for n in range(len(FACTS)):
        one = task.draw(n, random.Random(n), stage(passages=2, fill=True))
        number = next(k for k, (_, _, q, _) in enumerate(FACTS) if q == one.question)
        assert set(ids(one.passages)) == {f"x:{number}", f"x:{number ^ 1}"}
        assert one.target == FACTS[number][3][0]
