"""Questions as a task: what is drawn for each, how they find their passages, what is left out and said."""

import gzip
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from fidkit.errors import DataError
from fidkit.preset import named
from fidkit.questions.files import Question
from fidkit.tokens import Tokenizer
from fidkit.train.data.joined import TrainingQuestion, join_passages, read_ranked, verbatim_forms
from fidkit.train.data.questions import QuestionTask, cut_around
from fidkit.train.data.stream import load_tasks
from fidkit.train.passages import PassageTable
from fidkit.train.specs import StageSpec
from fidkit.types import Passage
from train.toy import FACTS, IDS, table_of, table_with, world, write_rows

PASSAGES = [Passage(i, title, text) for i, (title, text, *_) in zip(IDS, FACTS, strict=True)]
TEA = PASSAGES[3]


def stage(**settings) -> StageSpec:
    return StageSpec(**{"steps": 1, "mix": {"facts": 1.0}, **settings})


def question(number: int = 0, **settings) -> TrainingQuestion:
    fields = {"targets": ("Cairo",), "positives": (PASSAGES[2],), "ranked": tuple(PASSAGES)}
    return TrainingQuestion(f"question {number}", **fields | settings)


def test_every_question_comes_once_an_epoch_in_another_order_each_time() -> None:
    task = QuestionTask([question(n) for n in range(7)], seed=0)
    asked = [task.draw(n, random.Random(0), stage()).question for n in range(21)]
    epochs = [asked[:7], asked[7:14], asked[14:]]
    assert all(sorted(epoch) == [f"question {n}" for n in range(7)] for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_each_acceptable_target_is_drawn_as_often_as_it_is_listed() -> None:
    task = QuestionTask([question(targets=("one", "two", "two"), positives=())], seed=0)
    drawn = Counter(task.draw(0, random.Random(n), stage()).target for n in range(600))
    assert drawn.keys() == {"one", "two"}
    assert drawn["two"] / drawn["one"] == pytest.approx(2, rel=0.25)


def test_the_target_is_one_that_stands_in_the_positive_passage() -> None:
    task = QuestionTask([question(targets=("Gizeh", "Cairo"))], seed=0)
    assert {task.draw(0, random.Random(n), stage()).target for n in range(30)} == {"Cairo"}


def test_retrieved_passages_keep_their_rank() -> None:
    task = QuestionTask([question(ranked=tuple(PASSAGES[::-1]))], seed=0)
    for n in range(10):
        drawn = task.draw(0, random.Random(n), stage(context="retrieved", passages=5))
        assert list(drawn.passages) == PASSAGES[::-1][:5]


def test_positive_reads_a_positive_among_others_in_any_place() -> None:
    positives = (PASSAGES[2], PASSAGES[5])
    task = QuestionTask([question(positives=positives)], seed=0)
    places, used = set(), set()
    for n in range(60):
        read = task.draw(0, random.Random(n), stage(passages=4)).passages
        assert len({passage.id for passage in read}) == len(read) == 4
        [positive] = [passage for passage in read if passage in positives]
        places.add(read.index(positive))
        used.add(positive.id)
    assert (places, used) == ({0, 1, 2, 3}, {"p2", "p5"})


def test_positive_makes_do_with_the_passages_there_are() -> None:
    few = QuestionTask([question(ranked=tuple(PASSAGES[2:4]))], seed=0)
    assert len(few.draw(0, random.Random(0), stage(passages=5)).passages) == 2
    none = QuestionTask([question(positives=(), ranked=())], seed=0)
    assert none.draw(0, random.Random(0), stage(passages=5)).passages == [Passage("", "", "")]


def test_a_window_around_the_answer_holds_it() -> None:
    task = QuestionTask([question()], seed=0)
    texts = {task.draw(0, random.Random(n), stage(sentences=1)).passages[0].text for n in range(9)}
    assert texts == {"Its delta begins at Cairo."}
    windows = {cut_around(PASSAGES[2], "Cairo", random.Random(n), 2).text for n in range(20)}
    assert len(windows) == 2
    assert all("Cairo" in text and text in PASSAGES[2].text for text in windows)
    assert cut_around(PASSAGES[2], "sea. Its", random.Random(0), 1) == PASSAGES[2]


def test_verbatim_forms_are_what_stands_in_the_passage_whatever_its_case() -> None:
    assert verbatim_forms(["ROBERT fortune", "china", "nobody"], TEA) == ["Robert Fortune", "China"]
    assert verbatim_forms([""], TEA) == []
    # Lower-casing makes this text longer; a shifted form would be wrong.
    assert verbatim_forms(["cairo"], Passage("", "", "İİİ Cairo")) == []


def test_joining_finds_passages_by_id_and_by_answer(tmp_path: Path) -> None:
    table = table_with(tmp_path, PASSAGES)
    asked = Question("q", "who?", ("Robert Fortune",), positive_ids=("p3", "unknown"))
    joined = join_passages(asked, table, {"q": [1, 3]}, verbatim=False)
    assert joined == TrainingQuestion("who?", ("Robert Fortune",), [3], [1, 3])
    assert [p.id for p in table.fetch(joined.ranked)] == ["p1", "p3"]
    assert join_passages(replace(asked, positive_ids=()), table, {"q": [1, 3]}, verbatim=False) == joined
    own = replace(asked, positive_ids=(), passages=(TEA, PASSAGES[0]))
    expected = TrainingQuestion("who?", ("Robert Fortune",), [TEA], (TEA, PASSAGES[0]))
    assert join_passages(own, PassageTable(None), {}, verbatim=False) == expected


def test_positives_that_share_an_id_are_all_there() -> None:
    """Some files number the passages of each question alike, or give one id to all pieces of a page."""
    pieces = (Passage("1", "Tea", "From China."), Passage("1", "Tea", "Robert Fortune took it away."))
    asked = Question("q", "who?", ("Robert Fortune",), passages=pieces, positive_ids=("1",))
    joined = join_passages(asked, PassageTable(None), {}, verbatim=False)
    assert joined.positives == list(pieces)
    assert join_passages(asked, PassageTable(None), {}, verbatim=True).positives == [pieces[1]]


def test_verbatim_drops_what_is_not_written_and_trains_on_what_is(tmp_path: Path) -> None:
    table = table_with(tmp_path, PASSAGES)
    asked = Question("q", "who?", ("robert FORTUNE", "Bob"), "Bob", positive_ids=("p3", "p1"))
    joined = join_passages(asked, table, {}, verbatim=True)
    assert joined == TrainingQuestion("who?", ("Robert Fortune",), [3], ())
    assert not join_passages(replace(asked, answers=("Bob",)), table, {}, verbatim=True).targets
    assert join_passages(asked, table, {}, verbatim=False).targets == ("Bob",)
    assert not join_passages(replace(asked, answers=(), target=None), table, {}, verbatim=False).targets


# What is left out or missing is counted and said


def said(folder: Path, *changes: str) -> list[str]:
    recipe, notes = world(folder, *changes), list[str]()
    load_tasks(recipe, table_of(recipe), Tokenizer.bundled(named("tiny-fid")), notes.append)
    return notes


def test_answers_that_are_too_long_are_counted_and_left_out(tmp_path: Path) -> None:
    tokenizer = Tokenizer.bundled(named("tiny-fid"))
    shortest = [min(len(tokenizer.target(answer)) for answer in answers) for *_, answers in FACTS]
    limit = sorted(set(shortest))[0]
    left_out = sum(length > limit for length in shortest)
    assert 0 < left_out < len(FACTS)
    [note] = said(tmp_path, f"target_tokens={limit}")
    assert f"task 'facts': {left_out} of {len(FACTS)} questions left out" in note
    assert f"more than {limit} tokens" in note
    recipe = world(tmp_path, f"target_tokens={limit}")
    task = load_tasks(recipe, table_of(recipe), tokenizer)["facts"]
    drawn = {task.draw(n, random.Random(n), stage()).target for n in range(100)}
    # Of several answers those stay that fit.
    fitting = {a for *_, answers in FACTS for a in answers if len(tokenizer.target(a)) <= limit}
    assert drawn == fitting


def test_a_task_of_answers_that_are_all_too_long_is_refused(tmp_path: Path) -> None:
    rows = [{"question": "why?", "answers": ["for many reasons that take a while"]}]
    write_rows(tmp_path / "long.jsonl", rows)
    with pytest.raises(DataError, match="1 of 1 questions left out: 1 with answers of more than 4 tok"):
        said(tmp_path, f"tasks.facts.files=['{tmp_path / 'long.jsonl'}']", "target_tokens=4")


def test_questions_without_a_positive_passage_are_counted(tmp_path: Path) -> None:
    own = [{"title": "", "text": "something else"}]
    rows = [
        {"question": "who?", "answers": ["Curie"], "positive_ids": ["p1"]},
        {"question": "when?", "answers": ["1911"], "ctxs": own},
        {"question": "where?", "answers": ["Rome"]},
    ]
    path = write_rows(tmp_path / "some.jsonl", rows)
    [note] = said(tmp_path, f"tasks.facts.files=['{path}']")
    assert note.startswith("task 'facts': 2 of 3 questions have no positive passage")
    assert note.endswith(", 1 of them nothing at all")
    # Who reads passages as retrieved wants no positive one.
    retrieved = "stages=[{ steps = 1, mix = { facts = 1.0 }, context = 'retrieved' }]"
    assert said(tmp_path, f"tasks.facts.files=['{path}']", retrieved) == []
    assert said(tmp_path) == []


def test_questions_without_answers_are_counted_and_never_trained_on(tmp_path: Path) -> None:
    rows = [
        {"question": "who?", "answers": ["Curie"], "positive_ids": ["p1"]},
        {"question": "blank?", "answers": [""], "positive_ids": ["p1"]},
        {"question": "space?", "answers": [" "], "target": "", "positive_ids": ["p1"]},
        {"question": "none?", "answers": [], "positive_ids": ["p1"]},
        {"question": "missing?", "positive_ids": ["p1"]},
        {"question": "some?", "answers": ["", "Warsaw"], "positive_ids": ["p1"]},
        {"question": "elsewhere?", "answers": ["Oslo"], "positive_ids": ["p1"]},
    ]
    path = write_rows(tmp_path / "some.jsonl", rows)
    [note] = said(tmp_path, f"tasks.facts.files=['{path}']")
    assert note == "task 'facts': 4 of 7 questions left out: 4 without answers"
    [note] = said(tmp_path, f"tasks.facts.files=['{path}']", "tasks.facts.verbatim=true")
    assert note.startswith(
        "task 'facts': 5 of 7 questions left out: 4 without answers, 1 without a positive "
    )
    recipe = world(tmp_path, f"tasks.facts.files=['{path}']")
    task = load_tasks(recipe, table_of(recipe), Tokenizer.bundled(named("tiny-fid")))["facts"]
    assert {task.draw(n, random.Random(n), stage()).target for n in range(60)} == {"Curie", "Warsaw", "Oslo"}


def test_ranked_ids_that_no_passage_has_are_counted(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "some.jsonl", [{"id": "q0", "ctx_ids": ["p1", "gone", "p2", 7]}])
    [note] = said(tmp_path, f"tasks.facts.retrieved=['{path}']")
    assert note.startswith(f"{path}: 2 of 4 ranked ids left out, which no passage has; check")


def test_no_questions_are_refused() -> None:
    with pytest.raises(DataError, match="no questions left"):
        QuestionTask([], seed=0)


# Files of ranked passages


BAD_ROWS = ["{", "[]", '{"id": 1}', '{"id": 1, "ctx_ids": 2}', '{"id": 1, "ctx_ids": [[]]}']
BAD_ROWS += ["[" * 100_000, '{"id": "\\ud800", "ctx_ids": []}', '{"id": 1, "ctx_ids": ["\\udfff"]}']


@pytest.mark.parametrize("row", BAD_ROWS)
def test_a_malformed_row_of_ranked_passages_is_named(tmp_path: Path, row: str) -> None:
    path = tmp_path / "ranked.jsonl"
    path.write_text('{"id": 1, "ctx_ids": [2, "3"]}\n' + row + "\n")
    with pytest.raises(DataError, match=r"ranked\.jsonl:2: expected "):
        read_ranked(path)


def test_ranked_passages_are_read_packed_or_not(tmp_path: Path) -> None:
    row = '{"id": 1, "ctx_ids": [2, "3"]}\n'
    (tmp_path / "plain.jsonl").write_text(row)
    with gzip.open(tmp_path / "packed.jsonl.gz", "wt") as file:
        file.write(row)
    for path in tmp_path.iterdir():
        assert read_ranked(path) == {"1": ["2", "3"]}


def test_ranked_passages_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "no.jsonl.gz").write_text("not packed")
    for name in ("missing.jsonl", "no.jsonl.gz"):
        with pytest.raises(DataError, match=f"{name}: expected a readable UTF-8 file"):
            read_ranked(tmp_path / name)
