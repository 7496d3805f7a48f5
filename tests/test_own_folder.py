"""The folder of invented documents, and the questions about it, are what their README says."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fidkit import Answerer
from fidkit.types import Passage

FOLDER = Path(__file__).parents[1] / "examples" / "own-folder"


@pytest.fixture(scope="module")
def questions() -> list[dict[str, Any]]:
    lines = (FOLDER / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def peers() -> Iterator[ModuleType]:
    """The script, which finds `judge` beside it as when it is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield importlib.import_module("peers")
        for name in ("peers", "judge"):
            del sys.modules[name]


READ = [Passage("1", "Minutes", "Ada took\nthe minutes."), Passage("2", "Hall", "The hall has 90 seats.")]
MINUTES = {"id": "1", "question": "Who?", "answers": ["Ada"], "document": "a.md"}
DOG = {"id": "2", "question": "Which dog?", "answers": [], "document": None, "near": "a.md"}


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


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (" Marzipan\n", "Marzipan"),
        ("Answer: “Marzipan”", "Marzipan"),
        ("The answer is: **1 October\n2025**", "1 October 2025"),
        ("The answer is 42.", "The answer is 42."),
        (" \n", ""),
        ("unanswerable", ""),
        ("Unanswerable.", ""),
        ("The passages do not say.", ""),
        ("The passage doesn’t explicitly mention it", ""),
        ("It is not mentioned in the passages.", ""),
        ("The dog's name is not explicitly stated", ""),
        ("There is no information about a dog.", ""),
        ("This cannot be determined", ""),
        ("It does not rain", "It does not rain"),
        ("Note 7", "Note 7"),
    ],
)
def test_a_language_models_answer_is_cleaned(peers: ModuleType, written: str, said: str) -> None:
    assert peers.cleaned(written) == said


def test_no_accepted_answer_counts_as_silence(peers: ModuleType, questions: list[dict[str, Any]]) -> None:
    for asked in questions:
        for answer in asked["answers"]:
            assert not peers.is_silence(answer), answer
            assert peers.cleaned(answer), answer


def test_what_a_language_model_is_given(peers: ModuleType) -> None:
    told = peers.message("Who?", READ)
    assert told == (
        f"{peers.INSTRUCTION}\n\nPassage 1: Minutes: Ada took the minutes.\n"
        "Passage 2: Hall: The hall has 90 seats.\nQuestion: Who?\nAnswer:"
    )
    shown = peers.continued("Who?", READ)
    assert shown.startswith(peers.INSTRUCTION)
    assert shown.endswith(told.removeprefix(peers.INSTRUCTION))
    assert shown.count("Question: ") == 3
    assert f"Answer: {peers.ABSENT}\n" in shown


def test_worked_examples_are_what_they_show(peers: ModuleType, questions: list[dict[str, Any]]) -> None:
    (asked, read, answer), (_, _, absent) = peers.WORKED
    assert any(answer in passage.text for passage in read)
    assert absent == peers.ABSENT
    assert asked not in {one["question"] for one in questions}


def test_answers_of_a_language_model_are_judged_as_a_readers(peers: ModuleType) -> None:
    said = {"Who?": " Ada.", "Which dog?": "It is not mentioned."}
    peer = peers.Peer("parrot", 1.0, lambda question, _: question, said.__getitem__)
    (who, _), (dog, written) = peers.answered(peer, lambda _: READ, [MINUTES, DOG])
    assert who.right
    assert who.found
    assert who.confidence is None
    assert dog.silent
    assert dog.good
    assert written == "It is not mentioned."
    counts = peers.summary([who, dog])
    assert (counts["right"], counts["absences_said"], counts["absent"]) == (1, 1, 1)


def test_files_have_names(peers: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "a=b.gguf"
    file.touch()
    assert peers.named_files([f"one={file}", f"two={file}"]) == {"one": file, "two": file}
    for given, expected in (
        ([str(file)[:-7]], "expected NAME=FILE"),
        ([f"one={file}", f"one={file}"], "named twice"),
        ([f"one={file}.not"], "there is no file"),
    ):
        with pytest.raises(peers.UsageError, match=expected):
            peers.named_files(given)


def test_what_reads_files_is_asked_for(peers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "gguf" else name)
    with pytest.raises(peers.UsageError, match="not installed is gguf; run `pip install"):
        peers.check_needed()


def test_models_read_what_the_reader_reads(peers: ModuleType, questions: list[dict[str, Any]]) -> None:
    with peers.searched(FOLDER) as corpus, Answerer.open(FOLDER / "documents") as answerer:
        for asked in questions[:3]:
            found = [hit.passage for hit in corpus.search(asked["question"], 3)]
            assert found == [hit.passage for hit in answerer.corpus.search(asked["question"], 3)]
