"""The report over answered questions, and its predictions file."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from fidkit import Answer, Evidence, FidkitError, Passage
from fidkit.errors import DataError
from fidkit.evaluate import Result, evaluate
from fidkit.evaluate.evaluate import scored
from fidkit.questions import Question

PASSAGES = (Passage("1", "Norway", "a country"), Passage("2", "Oslo", "a capital"))
RIGHT = Result(Question("q1", "capital?", ("Oslo",)), PASSAGES, Answer("oslo", -0.1))
HALF = Result(Question("q2", "country?", ("Norway Kingdom",)), PASSAGES, Answer("Norway", -0.5))


def test_report_is_in_percent() -> None:
    report = evaluate([RIGHT, HALF], cutoffs=(1, 2, 5))
    assert report.n == 2
    assert report.em == 50
    assert report.f1 == pytest.approx(100 * (1 + 2 / 3) / 2)
    # Titles count, and nobody was given five passages.
    assert report.recall == {1: 0, 2: 50}
    assert report.seconds >= 0


def test_report_as_json_has_string_cutoffs() -> None:
    record = evaluate([RIGHT], cutoffs=(1, 2)).to_json()
    assert list(record)[:5] == ["n", "em", "f1", "recall", "seconds"]
    assert json.loads(json.dumps(record)) == record


def test_closed_book_has_no_recall() -> None:
    assert evaluate([Result(RIGHT.question, (), RIGHT.answer)]).recall == {}


def test_predictions_survive_an_interruption(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"

    def interrupted() -> Iterator[Result]:
        yield RIGHT
        assert len(path.read_text(encoding="utf-8").splitlines()) == 1
        yield HALF
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(interrupted(), predictions=path)
    first, second = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert first == {
        "id": "q1",
        "question": "capital?",
        "prediction": "oslo",
        "guess": "oslo",
        "confidence": 0.0,
        "verbatim": False,
        "score": -0.1,
        "em": 1,
        "f1": 1.0,
        "forced_em": 1,
        "forced_f1": 1.0,
        "answers": ["Oslo"],
        "passage_ids": ["1", "2"],
    }
    assert second["em"] == 0


def test_what_was_withheld_counts_as_forced_and_not_as_shipped() -> None:
    withheld = RIGHT._replace(answer=Answer("", -0.1, guess="Oslo", confidence=0.2))
    report = evaluate([withheld, HALF])
    assert (report.em, report.forced_em, report.silent) == (0, 50, 50)
    assert report.forced_f1 > report.f1
    assert report.calibration.coverage[50] == 100  # the surer of the two


def test_how_many_guesses_stand_in_a_passage_and_how_many_loop() -> None:
    copied = Answer("", -0.1, guess="Oslo", verbatim=True)
    answers = [
        copied,
        Answer("Oslo Oslo Oslo", -0.1),
        Answer("Bergen", -0.1, verbatim=True),
        Answer("", -0.1),
    ]
    report = evaluate([RIGHT._replace(answer=answer) for answer in answers])
    assert report.verbatim == pytest.approx(200 / 3)  # of those that say something
    assert report.loops == 1
    assert evaluate([RIGHT._replace(answer=answers[3])]).verbatim == 0


def test_to_say_nothing_is_right_where_there_is_no_answer() -> None:
    question = Question("q", "capital of the sea?", near_ids=("1",))
    silent, wrong = (Result(question, PASSAGES, Answer(text, -0.1)) for text in ("", "Oslo"))
    report = evaluate([silent, wrong])
    assert (report.em, report.f1, report.silent) == (50, 50, 50)


def test_nothing_to_judge_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no questions"):
        evaluate([])
    with pytest.raises(DataError, match="'q' has no answers"):
        evaluate([Result(Question("q", "?"), (), Answer("x", 0.0))])
    with pytest.raises(FidkitError, match="can't write predictions"):
        evaluate([RIGHT], predictions=tmp_path / "no" / "such" / "folder.jsonl")


def test_recall_looks_at_different_passages() -> None:
    """The field counts ranks of passages; a text that comes again finds nothing new and takes no place."""
    twice = (PASSAGES[0], Passage("1b", "Norway", "a country"), PASSAGES[0], PASSAGES[1])
    report = evaluate([Result(RIGHT.question, twice, RIGHT.answer)], cutoffs=(1, 2, 3, 4))
    assert report.recall == {1: 0, 2: 100}


def test_a_passage_that_comes_twice_has_one_score_with_all_its_shares() -> None:
    [first, second] = PASSAGES
    again = Passage("1b", first.title, first.text)
    shares = [(first, 0.2), (again, 0.3), (second, 0.1), (second, 0.4)]
    answer = Answer("oslo", -0.1, tuple(Evidence(passage, share) for passage, share in shares))
    rows = scored(RIGHT.question, (first, again, second, second), answer)["ctxs"]
    assert [row["id"] for row in rows] == ["1", "2"]
    assert [math.exp(row["score"]) for row in rows] == pytest.approx([0.5, 0.5])
