"""The folder of invented documents, and the questions about it, are what their README says."""

import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "own-folder"


@pytest.fixture(scope="module")
def questions() -> list[dict[str, Any]]:
    lines = (FOLDER / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_there_are_as_many_as_promised(questions: list[dict[str, Any]]) -> None:
    assert len(list((FOLDER / "documents").iterdir())) == 15
    assert len(questions) == 90
    assert sum(not asked["answers"] for asked in questions) == 20


def test_no_question_comes_twice(questions: list[dict[str, Any]]) -> None:
    assert len({asked["id"] for asked in questions}) == len(questions)
    assert len({asked["question"].casefold() for asked in questions}) == len(questions)


def test_every_first_answer_stands_in_its_document(questions: list[dict[str, Any]]) -> None:
    for asked in questions:
        if asked["answers"]:
            document = (FOLDER / "documents" / asked["document"]).read_text(encoding="utf-8")
            assert asked["answers"][0] in document, asked["id"]
