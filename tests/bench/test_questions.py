"""What all subjects read, made up or real."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.toy import RAGGED
from collected import Collected
from fidkit.bench.questions import Questions, retrieved, synthetic
from fidkit.cost import Workload
from fidkit.errors import DataError
from fidkit.passages import Corpus
from fidkit.preset import PRESETS
from fidkit.tokens import Tokenizer
from fidkit.types import Passage
from train.toy import write_rows

CONFIG = PRESETS["tiny-fid"]
PASSAGES = [
    {"id": "1", "title": "Fram", "text": "The ship was called Fram and it went south."},
    {"id": "2", "title": "Ships", "text": "A ship needs wind."},
    {"id": "3", "title": "Oslo", "text": "A ship left Oslo in 1910, which is a harbour by a fjord."},
    {"id": "4", "title": "Tea", "text": "Tea comes from China."},
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    folder = tmp_path_factory.mktemp("corpus")
    with Corpus.build(write_rows(folder / "passages.jsonl", PASSAGES), folder / "corpus") as built:
        yield built


def asked(folder: Path, *texts: str) -> Path:
    return write_rows(folder / "questions.jsonl", [{"question": text, "answers": []} for text in texts])


def test_synthetic_questions_have_the_lengths_of_the_workload() -> None:
    workload = Workload(questions=2, passages=3, passage_tokens=(4, 9, 2), question_tokens=5)
    read = synthetic(workload, vocabulary=100)
    assert [len(question) for question in read.questions] == [5, 5]
    assert [[len(p) for p in of_one] for of_one in read.passages] == [[4, 9, 2]] * 2
    assert read.workload(32).replace(passage_tokens=(4, 9, 2)) == workload
    assert sorted(read.workload(32).lengths) == [2, 4, 9]


def test_one_length_is_one_number() -> None:
    workload = Workload(passages=3, passage_tokens=7, question_tokens=5, output_tokens=9)
    read = synthetic(workload, vocabulary=100)
    assert read.workload(9) == workload
    assert read.shapes(9) == {
        "questions": 1,
        "passages": 3,
        "question_tokens": 5,
        "passage_tokens": 7,
        "row_tokens": 36,
        "padded_tokens": 36,
        "output_tokens": 9,
        "source": "synthetic",
    }


def test_lengths_that_differ_are_listed_and_averaged_by_rank() -> None:
    shapes = RAGGED.shapes(4)
    assert shapes["question_tokens"] == [3, 2]
    assert shapes["passage_tokens"] == [6, 1, 3, 2, 4, 3]
    assert (shapes["row_tokens"], shapes["padded_tokens"]) == (34, 54)
    workload = RAGGED.workload(4)
    assert workload.lengths == (2, 3, 5)  # of 1 and 2, 3 and 3, 6 and 4; halves go to the even number
    assert workload.question_tokens == 2
    assert workload.questions == 2


def test_rows_have_the_question_in_front() -> None:
    assert RAGGED.rows[0] == [5, 6, 7, 3, 4, 5, 6, 7, 8]
    assert RAGGED.rows[3] == [9, 8, 30, 31]


def test_retrieved_passages_are_tokens_of_what_is_found(corpus: Corpus, tmp_path: Path) -> None:
    file = asked(tmp_path, "which ship went south?", "ship of oslo?")
    read = retrieved(corpus, file, CONFIG, count=2, passages=3)
    tokenizer = Tokenizer.bundled(CONFIG)
    assert read.source == "corpus"
    assert read.questions[0] == tokenizer.question("which ship went south?").ids
    first = Passage("1", PASSAGES[0]["title"], PASSAGES[0]["text"])
    assert read.passages[0][0] == tokenizer.passages([first])[0]
    assert [len(of_one) for of_one in read.passages] == [3, 3]
    assert len(set(map(len, read.passages[0]))) > 1


def test_questions_that_find_too_little_are_passed_over(corpus: Corpus, tmp_path: Path) -> None:
    file = asked(tmp_path, "tea?", "which ship?", "who?")
    read = retrieved(corpus, file, CONFIG, count=1, passages=3)
    assert Tokenizer.bundled(CONFIG).decode(read.questions[0]).endswith("which ship?")


def test_too_few_questions_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    file = asked(tmp_path, "tea?", "which ship?")
    with pytest.raises(DataError, match="1 of its questions find 3 passages in "):
        retrieved(corpus, file, CONFIG, count=2, passages=3)


def test_passages_may_be_kept_anywhere(tmp_path: Path) -> None:
    passages = Collected(["tea comes from china", "a ship went south", "tea and a ship"], tmp_path)
    read = retrieved(passages, asked(tmp_path, "which ship"), CONFIG, count=1, passages=2)
    assert read.passages[0] == Tokenizer.bundled(CONFIG).passages(passages.get([1, 2]))


def test_equal_questions_are_equal() -> None:
    assert Questions(RAGGED.questions, RAGGED.passages) == RAGGED
