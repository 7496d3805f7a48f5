"""What a reader gets to read: its own passages, those of another question, or none."""

from collections.abc import Sequence

import pytest

from fidkit.errors import DataError
from fidkit.evaluate.contexts import ContextKind, passages_for
from fidkit.questions.files import Question
from fidkit.types import Hit, Passage


def passage(name: str) -> Passage:
    return Passage(name, "", f"text of {name}")


def question(number: int, *own: str, gold: str | None = None) -> Question:
    passages = tuple(map(passage, own))
    return Question(str(number), f"q{number}", ("a",), None, passages, (), (gold, "other") if gold else ())


QUESTIONS = [
    question(0, gold="g0"),
    question(1, "own1", "own2", "own3"),
    question(2),
    question(3, gold="g3"),
    question(4, gold="g4"),
]


class Everything:
    """Finds passages named for the question, and has any that is asked for."""

    def search(self, text: str, k: int) -> list[Hit]:
        return [Hit(passage(f"{text}/{rank}"), 1.0) for rank in range(k)]

    def get(self, ids: Sequence[str]) -> list[Passage]:
        return [passage(i) for i in ids]


def read(kind: ContextKind, n: int = 2, questions: Sequence[Question] = QUESTIONS) -> dict[str, list[str]]:
    read = passages_for(questions, kind, n, Everything())  # type: ignore[arg-type]
    return {asked.question: [p.id for p in passages] for asked, passages in read}


def test_retrieved_is_the_files_own_passages_or_a_search() -> None:
    assert read("retrieved") == {
        "q0": ["q0/0", "q0/1"],
        "q1": ["own1", "own2"],
        "q2": ["q2/0", "q2/1"],
        "q3": ["q3/0", "q3/1"],
        "q4": ["q4/0", "q4/1"],
    }


def test_gold_is_one_known_passage_and_leaves_out_questions_without() -> None:
    assert read("gold") == {"q0": ["g0"], "q3": ["g3"], "q4": ["g4"]}


@pytest.mark.parametrize(("foreign", "own"), [("foreign", "retrieved"), ("foreign-gold", "gold")])
def test_foreign_is_what_the_question_half_a_file_away_gets(foreign: ContextKind, own: ContextKind) -> None:
    expected, given = read(own), read(foreign)
    assert list(given) == list(expected)
    assert all(given[asked] != expected[asked] for asked in given)
    order = list(expected.values())
    assert list(given.values()) == order[len(order) // 2 :] + order[: len(order) // 2]


def test_how_many_questions_name_no_such_passage_is_said(caplog: pytest.LogCaptureFixture) -> None:
    known = Question("1", "who?", ["b"], positive_ids=["p"], passages=[Passage("p", "", "a b")])
    questions = [known, Question("2", "where?", ["b"]), Question("3", "when?", ["b"])]
    assert [asked.id for asked, _ in passages_for(questions, "gold", 1, None)] == ["1"]
    assert [*passages_for(questions, "near", 1, None)] == []
    assert [record.getMessage() for record in caplog.records] == [
        "2 of 3 questions left out of what reads gold passages: without `positive_ids`",
        "3 of 3 questions left out of what reads near passages: without `near_ids`",
    ]
    caplog.clear()
    assert len([*passages_for([known], "gold", 1, None)]) == 1
    assert not caplog.records


def test_none_reads_nothing_and_needs_no_corpus() -> None:
    given = passages_for(QUESTIONS, "none", 2, None)
    assert [(asked.question, passages) for asked, passages in given] == [(f"q{n}", []) for n in range(5)]


@pytest.mark.parametrize("kind", ["foreign", "foreign-gold"])
def test_a_question_is_never_foreign_to_itself(kind: ContextKind) -> None:
    with pytest.raises(DataError, match=f"{kind} passages come from other questions"):
        read(kind, questions=QUESTIONS[:1])


def test_without_a_corpus_the_file_must_bring_passages() -> None:
    own = passages_for(QUESTIONS[1:2], "retrieved", 9, None)
    assert [len(passages) for _, passages in own] == [3]
    with pytest.raises(DataError, match="give --corpus"):
        list(passages_for(QUESTIONS[:1], "retrieved", 9, None))


def test_a_question_without_passages_among_others_is_named() -> None:
    own = Question("a", "who?", ("x",), passages=(Passage("1", "", "x"),))
    bare = Question("b", "where?", ("y",))
    with pytest.raises(DataError, match=r"1 of 2 questions bring no passages .* first 'b' \('where\?'\)"):
        list(passages_for([own, bare], "retrieved", 9, None))
    # Before anything is read, which may take an hour.
    with pytest.raises(DataError, match="1 of 2"):
        next(passages_for([own, bare], "retrieved", 9, None))


def test_equal_passages_of_a_question_are_one() -> None:
    first, again, other = Passage("1", "T", "x"), Passage("2", "T", "x"), Passage("3", "", "x")
    asked = Question("a", "who?", ("x",), passages=(first, again, first, other))
    [(_, read)] = passages_for([asked], "retrieved", 2, None)
    assert read == [first, other]


def test_gold_passages_may_be_the_questions_own() -> None:
    asked = Question(
        "a", "who?", ("x",), passages=(Passage("1", "", "z"), Passage("2", "", "x")), positive_ids=("2",)
    )
    [(_, read)] = passages_for([asked], "gold", 1, None)
    assert [p.id for p in read] == ["2"]


def test_near_passages_are_of_the_topic_and_hold_no_answer() -> None:
    asked = [Question("a", "who?", near_ids=("2", "3")), Question("b", "where?", ("Oslo",))]
    given = list(passages_for(asked, "near", 5, Everything()))  # type: ignore[arg-type]
    assert [(question.id, [p.id for p in passages]) for question, passages in given] == [("a", ["2"])]
