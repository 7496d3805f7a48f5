"""Question files of the field, as they are published, in few rows."""

import json
from pathlib import Path
from typing import Any

import pytest

from fidkit import Passage
from fidkit.errors import DataError
from fidkit.questions import Question, read_questions
from fidkit.questions.layouts import LAYOUTS

DPR_RETRIEVAL = {
    "question": "who?",
    "answers": ["Ada"],
    "ctxs": [{"id": "wiki:1", "title": "T", "text": "x", "score": "79.1", "has_answer": True}],
}
TRIVIA = {
    "Answer": {
        "Aliases": ["Sunset Blvd", "West Sunset Boulevard"],
        "MatchedWikiEntityName": "",
        "NormalizedAliases": ["sunset blvd"],
        "NormalizedValue": "sunset boulevard",
        "Type": "WikipediaEntity",
        "Value": "SUNSET BOULEVARD",
    },
    "EntityPages": [{"DocSource": "TagMe", "Filename": "A.txt", "Title": "A"}],
    "Question": "Which musical?",
    "QuestionId": "tc_33",
    "QuestionSource": "http://www.triviacountry.com/",
    "SearchResults": [],
}
TRIVIA_FILE = {"Data": [TRIVIA], "Domain": "Web", "VerifiedEval": False, "Version": 1.0}
CASES: dict[str, tuple[dict[str, Any], Question]] = {
    "DPR retrieval output": (
        DPR_RETRIEVAL,
        Question("0", "who?", ("Ada",), None, (Passage("wiki:1", "T", "x", "f"),), (79.1,)),
    ),
    "DPR training": (
        {
            "dataset": "nq_dev_psgs_w100",
            "question": "who?",
            "answers": ["Ada"],
            "positive_ctxs": [
                {"title": "P", "text": "p", "score": 1000, "title_score": 1, "passage_id": "5"}
            ],
            "negative_ctxs": [{"title": "N", "text": "n", "score": 0, "passage_id": "7"}],
            "hard_negative_ctxs": [{"title": "H", "text": "h", "score": 14.7, "psg_id": 6}],
        },
        Question(
            "0",
            "who?",
            ("Ada",),
            passages=(Passage("5", "P", "p", "f"), Passage("6", "H", "h", "f"), Passage("7", "N", "n", "f")),
            positive_ids=("5",),
        ),
    ),
    "NQ-open": (
        {"question": "who?", "answer": ["Ada", "Ada Lovelace"]},
        Question("0", "who?", ("Ada", "Ada Lovelace")),
    ),
    "TriviaQA": (
        TRIVIA_FILE,
        Question(
            "tc_33",
            "Which musical?",
            ("SUNSET BOULEVARD", "Sunset Blvd", "West Sunset Boulevard"),
            "Sunset Boulevard",
        ),
    ),
    "TriviaQA on the hub": (
        {
            "question": "Which?",
            "question_id": "tc_1",
            "answer": {"value": "Cats", "aliases": ["Cats", "CATS"], "normalized_value": "cats"},
        },
        Question("tc_1", "Which?", ("Cats", "CATS"), "Cats"),
    ),
    "WebQuestions": (
        {
            "url": "http://www.freebase.com/view/en/justin_bieber",
            "targetValue": '(list (description "Jazmyn Bieber") (description Jaxon) '
            '(description "The \\"Kid\\""))',
            "utterance": "what is the name of his brother?",
        },
        Question("0", "what is the name of his brother?", ("Jazmyn Bieber", "Jaxon", 'The "Kid"')),
    ),
    "WebQuestions on the hub": (
        {"url": "http://x", "question": "what?", "answers": ["Jazmyn"]},
        Question("0", "what?", ("Jazmyn",)),
    ),
    "KILT": (
        {
            "id": "k1",
            "input": "who?",
            "meta": {},
            "output": [
                {"answer": "Ada", "provenance": [{"wikipedia_id": "9", "title": "A"}]},
                {"provenance": [{"wikipedia_id": "10"}]},
                {"answer": "Ada"},
                {"answer": "Lovelace"},
            ],
        },
        Question("k1", "who?", ("Ada", "Lovelace")),
    ),
    "KILT test": ({"id": "k2", "input": "who?"}, Question("k2", "who?")),
    "Atlas": ({"query": "complete:", "target": "done"}, Question("0", "complete:", ("done",), "done")),
    "Atlas with passages": (
        {
            "question": "who?",
            "answers": ["Ada"],
            "generation": "Bob",
            "passages": [{"id": "1", "title": "T", "section": "S", "text": "x", "score": 2.5}],
        },
        Question("0", "who?", ("Ada",), None, (Passage("1", "T: S", "x", "f"),), (2.5,)),
    ),
    "FlashRAG": (
        {"id": "test_0", "question": "who?", "golden_answers": ["Ada"], "metadata": {"a": 1}},
        Question("test_0", "who?", ("Ada",)),
    ),
    "FlashRAG after retrieval": (
        {
            "id": "test_0",
            "question": "who?",
            "golden_answers": ["Ada"],
            "output": {"retrieval_result": [{"id": "3", "contents": '"T"\nfirst\nsecond', "score": 0.5}]},
        },
        Question("test_0", "who?", ("Ada",), None, (Passage("3", "T", "first\nsecond", "f"),), (0.5,)),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("indent", [None, 2], ids=["one line", "indented"])
def test_each_layout_is_recognised(name: str, indent: int | None, tmp_path: Path) -> None:
    record, expected = CASES[name]
    content = record if "Data" in record or not indent else [record]
    (tmp_path / "f").write_text(json.dumps(content, indent=indent))
    assert list(read_questions(tmp_path / "f")) == [expected]


def test_layouts_may_be_mixed_in_a_file(tmp_path: Path) -> None:
    rows = [record for record, _ in CASES.values() if "Data" not in record]
    (tmp_path / "f").write_text("\n".join(map(json.dumps, rows)))
    expected = [question.question for record, question in CASES.values() if "Data" not in record]
    assert [question.question for question in read_questions(tmp_path / "f")] == expected


def test_somebody_elses_keys_do_not_turn_fid_into_another_layout(tmp_path: Path) -> None:
    row = {"question": "who?", "target": "Ada", "answer": {"text": ["Bob"]}, "input": "x", "query": "y"}
    (tmp_path / "f").write_text(json.dumps(row))
    assert list(read_questions(tmp_path / "f")) == [Question("0", "who?", ("Ada",), "Ada")]


def test_rows_are_chosen_by_the_keys_of_the_file(tmp_path: Path) -> None:
    rows = [{"input": "a?", "split": "dev"}, {"input": "b?", "split": "test"}]
    (tmp_path / "f").write_text("\n".join(map(json.dumps, rows)))
    assert [q.question for q in read_questions(tmp_path / "f", where={"split": ["test"]})] == ["b?"]


def test_an_unknown_layout_is_told_with_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "f").write_text(json.dumps({"prompt": "who?", "completion": "Ada"}))
    with pytest.raises(DataError) as caught:
        list(read_questions(tmp_path / "f"))
    message = str(caught.value)
    assert "the record's keys are prompt, completion" in message
    assert all(layout.name in message for layout in LAYOUTS)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"Question": "a?", "QuestionId": "1", "Answer": "x"},
            "expected `Answer` to be a JSON object, got str",
        ),
        ({"utterance": "a?", "targetValue": 3}, "expected `targetValue` to be a string, got int"),
        ({"input": "a?", "output": ["x"]}, "expected `output` to hold JSON objects, got str"),
        ({"question": "a?", "golden_answers": "x"}, "expected `answers` to be a list, got str"),
        ({"question": "a?", "answer": 3}, "expected `answers` to be a list, got int"),
        ({"question": "a?", "passages": [{"title": 1}]}, "expected `title` to be a string, got int"),
        ({"query": None}, "expected `question` to be a string, got nothing"),
    ],
)
def test_malformed_records_are_named(record: dict, message: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text(json.dumps(record))
    with pytest.raises(DataError) as caught:
        list(read_questions(tmp_path / "f"))
    assert str(caught.value).startswith(f"{tmp_path / 'f'}:1: ")
    assert message in str(caught.value)
