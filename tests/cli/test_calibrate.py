"""`fidkit calibrate`, and what `ask` and `evaluate` make of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.test_evaluate import world
from fidkit.calibration import FILE, Calibration
from fidkit.cli import evaluate
from fidkit.cli.app import run
from fidkit.cli.ask import RAW
from fidkit.evaluate import contexts
from fidkit.wording import withheld

__all__ = ["world"]  # a fixture

QUESTION = "where does tea come from?"


@pytest.fixture
def right_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random reader is never right."""
    judged = iter(range(10_000))
    monkeypatch.setattr("fidkit.evaluate.metrics.exact_match", lambda *_: next(judged) % 3 == 0)


def calibrate(world: Path, *more: str) -> int:
    data, corpus = str(world / "questions.jsonl"), str(world / "corpus")
    return run(["calibrate", str(world / "reader"), "--data", data, "--corpus", corpus, *more])


def test_a_calibration_is_fitted_kept_and_used(
    world: Path, capsys: pytest.CaptureFixture[str], right_now_and_then: None
) -> None:
    assert calibrate(world, "--json", "--passages", "2") == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    record = json.loads(out)
    assert f"note: fitted on {record['n']} answers alone" in err
    assert list(record) == ["n", "right", "silent", "threshold", "calibration", "reader"]
    kept = Calibration.load(world / "reader" / FILE)
    assert kept.threshold == record["threshold"]
    assert kept.fitted_on == "questions.jsonl; retrieved, gold, foreign; 2 passages"
    kept.replace(threshold=1.0).save(world / "reader" / FILE)
    asked = ["ask", QUESTION, "--in", str(world / "corpus"), "--reader", str(world / "reader")]
    assert run([*asked, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["answer"] is None
    assert answer["guess"]
    assert 0 < answer["confidence"] < 1
    assert RAW not in answer["notes"]
    assert run(asked) == 0
    out = capsys.readouterr().out
    assert out.startswith(withheld(answer["guess"], answer["confidence"]))
    assert run([*asked, "--stream"]) == 0
    assert capsys.readouterr().out == out  # what is withheld wasn't shown before
    given = ["evaluate", "--reader", str(world / "reader"), "--data", str(world / "questions.jsonl")]
    assert run([*given, "--corpus", str(world / "corpus"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["silent"] == 100
    assert list(report["calibration"]) == ["expected_error", "coverage"]


def test_questions_without_answers_read_near_and_found_passages_in_turn(
    world: Path, right_now_and_then: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [json.loads(line) for line in (world / "questions.jsonl").read_text().splitlines()]
    near = next(row["positive_ids"][0] for row in rows if row.get("positive_ids"))
    absent = [
        {"id": str(n), "question": f"who drinks tea {n}?", "answers": [], "near_ids": [near]}
        for n in range(5)
    ]
    (world / "absent.jsonl").write_text("".join(json.dumps(row) + "\n" for row in absent))
    kinds = []
    original = contexts.passages_for
    monkeypatch.setattr(
        contexts,
        "passages_for",
        lambda some, kind, *more: kinds.append((kind, len(some))) or original(some, kind, *more),
    )
    assert calibrate(world, "--data", str(world / "absent.jsonl")) == 0
    assert kinds[-2:] == [("near", 3), ("retrieved", 2)]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The ids of the passages that each question was read with."""
    ids: list[list[str]] = []
    original = evaluate.answered

    def spied(runner: Any, given: Iterator[Any], *more: Any) -> Iterator[Any]:
        for asked, passages in given:
            ids.append([passage.id for passage in passages])
            yield from original(runner, iter([(asked, passages)]), *more)

    monkeypatch.setattr(evaluate, "answered", spied)
    return ids


def found(world: Path) -> list[str]:
    """What calibrates on eight questions that come with six passages each."""
    ctxs = [{"id": str(n), "title": "Tea", "text": f"Tea number {n} comes from Assam."} for n in range(6)]
    asked = [{"id": str(n), "question": f"tea {n}?", "answers": ["Assam"], "ctxs": ctxs} for n in range(8)]
    (world / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    data = str(world / "many.jsonl")
    return ["calibrate", str(world / "reader"), "--data", data, "--context", "retrieved"]


def test_questions_read_several_numbers_of_passages_in_turn(
    world: Path, right_now_and_then: None, read: list[list[str]]
) -> None:
    assert run([*found(world), "--passages", "1", "--passages", "3", "--passages", "2"]) == 0
    assert read == [["0", "1", "2"][:count] for count in (1, 3, 2, 1, 3, 2, 1, 3)]
    assert Calibration.load(world / "reader" / FILE).fitted_on.endswith("; retrieved; 1, 3, 2 passages")


def test_the_first_questions_alone_and_five_passages_where_nobody_says(
    world: Path, right_now_and_then: None, read: list[list[str]]
) -> None:
    assert run([*found(world), "--limit", "6"]) == 0
    assert read == [["0", "1", "2", "3", "4"]] * 6


def test_without_calibration_confidence_is_raw_and_that_is_said(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (world / "reader" / FILE).unlink(missing_ok=True)
    asked = ["ask", QUESTION, "--in", str(world / "corpus"), "--reader", str(world / "reader"), "--json"]
    assert run(asked) == 0
    answer = json.loads(capsys.readouterr().out)
    assert RAW in answer["notes"]
    assert answer["answer"] == answer["guess"]


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        (["--context", "moon"], 2, "expected one of retrieved"),
        (["--passages", "0"], 2, "expected 1 or more"),
        (["--passages", "5", "--passages", "0"], 2, "--passages is 0; expected 1 or more"),
        (["--limit", "0"], 2, "expected 1 or more"),
        (["--keep", "0"], 2, "above 0 and at most 100"),
        (["--keep", "nan"], 2, "above 0 and at most 100"),
        ([], 1, "0 of 8 answers were right"),
    ],
)
def test_what_cannot_be_is_one_line(
    world: Path, capsys: pytest.CaptureFixture[str], given: list[str], code: int, says: str
) -> None:
    assert calibrate(world, *given) == code
    err = capsys.readouterr().err
    assert says in err
    assert err.count("error: ") == 1
    assert not (world / "reader" / FILE).exists() or code == 2


def test_a_reader_that_is_no_directory_is_refused(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["calibrate", str(world / "none"), "--data", str(world / "questions.jsonl")]) == 1
    assert "no such directory" in capsys.readouterr().err
