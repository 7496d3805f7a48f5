"""FiD's question files, well-formed and not."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from fidkit import FidkitError, Passage
from fidkit.errors import DataError
from fidkit.questions import Question, read_questions

RECORD: dict[str, Any] = {
    "id": "q1",
    "question": "who?",
    "target": "Ada",
    "answers": ["Ada", "Ada Lovelace"],
    "ctxs": [
        {"id": 7, "title": "Low", "text": "first in the file", "score": "1.5", "has_answer": False},
        {"id": "8", "title": "High", "text": "second", "score": 9},
    ],
    "positive_ids": [8],
    "somebody_elses_key": True,
}
EXPECTED = Question(
    id="q1",
    question="who?",
    answers=("Ada", "Ada Lovelace"),
    target="Ada",
    passages=(Passage("7", "Low", "first in the file", "f"), Passage("8", "High", "second", "f")),
    scores=(1.5, 9.0),
    positive_ids=("8",),
)


def write(path: Path, text: str) -> Path:
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["q.json", "q.jsonl", "q.jsonl.gz", "q.json.gz"])
@pytest.mark.parametrize("layout", ["lines", "list", "indented list", "blank lines", "byte order mark"])
def test_every_layout_reads_the_same_with_order_kept(tmp_path: Path, name: str, layout: str) -> None:
    line = json.dumps(RECORD)
    text = {
        "lines": f"{line}\n{line}\n",
        "list": f"[{line},{line}]",
        "indented list": json.dumps([RECORD, RECORD], indent=1),
        "blank lines": f"\n{line}\n\n{line}",
        "byte order mark": f"\ufeff{line}\n{line}\n",
    }[layout]
    questions = list(read_questions(write(tmp_path / name, text)))
    assert len(questions) == 2
    for question in questions:
        assert {passage.source for passage in question.passages} == {name}
        assert (question.id, question.answers, question.scores) == (
            EXPECTED.id,
            EXPECTED.answers,
            EXPECTED.scores,
        )
        assert [p.text for p in question.passages] == [p.text for p in EXPECTED.passages]


def test_a_record_in_full(tmp_path: Path) -> None:
    assert list(read_questions(write(tmp_path / "f", json.dumps(RECORD)))) == [EXPECTED]


def test_what_may_be_missing(tmp_path: Path) -> None:
    path = write(
        tmp_path / "q.jsonl",
        '{"question": "a?"}\n{"question": "b?", "target": "T", "ctxs": [{"text": "x"}]}\n',
    )
    first, second = read_questions(path)
    assert first == Question(id="0", question="a?")
    assert second.answers == ("T",)
    assert second.scores == ()
    assert second.passages == (Passage("1/0", "", "x", "q.jsonl"),)


def test_jsonl_is_streamed(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", '{"question": "fine?"}\nbroken\n')
    questions = read_questions(path)
    assert next(questions).question == "fine?"
    with pytest.raises(DataError, match=r"q\.jsonl:2: expected a JSON record"):
        next(questions)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"question": "a?"', "expected a JSON record"),
        ('"just text"', "expected a JSON object with a question, got str"),
        ("{}", "expected `question` to be a string, got nothing"),
        ('{"question": " "}', "`question` is empty"),
        ('{"question": 3}', "expected `question` to be a string, got int"),
        ('{"question": "a?", "answers": "Ada"}', "expected `answers` to be a list, got str"),
        ('{"question": "a?", "answers": [null]}', "expected `answers` to hold strings or numbers"),
        ('{"question": "a?", "ctxs": [3]}', "expected `ctxs` to hold JSON objects, got int"),
        ('{"question": "a?", "ctxs": [{"title": "t"}]}', "expected `text` to be a string, got nothing"),
        (
            '{"question": "a?", "ctxs": [{"text": "t", "score": "high"}]}',
            "expected every `score` to be a number",
        ),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, bad: str, message: str) -> None:
    path = write(tmp_path / "q.jsonl", f'{{"question": "fine?"}}\n{bad}\n')
    with pytest.raises(DataError) as caught:
        list(read_questions(path))
    assert str(caught.value).startswith(f"{path}:2: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_malformed_record_of_a_list_is_numbered(tmp_path: Path) -> None:
    path = write(tmp_path / "q.json", '[{"question": "a?"}, {"question": ""}]')
    with pytest.raises(DataError, match=r"q\.json: record 2: `question` is empty"):
        list(read_questions(path))


def test_unreadable_files_are_data_errors(tmp_path: Path) -> None:
    packed = gzip.compress(json.dumps(RECORD).encode())
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "plain.jsonl.gz").write_text("{}")
    (tmp_path / "latin.jsonl").write_bytes(b'{"question": "caf\xe9?"}\n')
    for name in ("cut.jsonl.gz", "plain.jsonl.gz", "latin.jsonl", "absent.jsonl"):
        with pytest.raises(FidkitError, match=name):
            list(read_questions(tmp_path / name))


def test_blank_answers_are_none(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(
        '{"question": "?", "answers": ["", " ", "x"], "target": ""}\n{"question": "?", "answers": [""]}\n'
    )
    some, none = read_questions(path)
    assert (some.answers, some.target) == (("x",), None)
    assert none.answers == ()


HALVES = [
    '{"question": "\\ud800", "answers": ["x"]}',
    '{"question": "?", "answers": ["\\udfff"]}',
    '{"question": "?", "target": "\\ud800"}',
    '{"id": "\\ud800", "question": "?"}',
    '{"question": "?", "positive_ids": ["\\ud800"]}',
    '{"question": "?", "ctxs": [{"text": "\\ud800"}]}',
    '{"question": "?", "ctxs": [{"text": "x", "title": "\\ud800"}]}',
    '{"Question": "\\ud800", "QuestionId": "1", "Answer": {"Value": "x"}}',
]


@pytest.mark.parametrize("row", [*HALVES, '{"question": "?", "ctxs": ' + "[" * 100_000, "[" * 100_000])
def test_half_characters_and_deep_nesting_are_named(tmp_path: Path, row: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "?"}\n' + row + "\n")
    with pytest.raises(DataError, match=r"q\.jsonl:2: expected (whole|a JSON record, but it is nest)"):
        list(read_questions(path))
    path.write_text("[" + row + "]\n")
    with pytest.raises(DataError, match=r"q\.jsonl: "):
        list(read_questions(path))


def test_half_characters_in_keys_that_nobody_reads_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "?", "note": "\\ud800"}\n{"question": "\\ud83d\\ude00"}\n')
    assert [question.question for question in read_questions(path)] == ["?", "😀"]
