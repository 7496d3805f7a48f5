"""`fidkit evaluate`: a report as the contract has it, predictions, controls."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from fidkit.answerer import Answerer
from fidkit.cli.app import run
from fidkit.engine import answering
from fidkit.engine.meaning import minilm
from fidkit.passages import Corpus
from fidkit.questions.files import read_questions
from fidkit.reader import Reader
from train.toy import FACTS, IDS, write_rows, write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions, the corpus of their passages, and a reader."""
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    Corpus.build(folder / "passages.jsonl", folder / "corpus").close()
    Reader.from_preset("tiny-fid").save_pretrained(folder / "reader")
    return folder


def arguments(world: Path, *more: str, corpus: bool = True) -> list[str]:
    given = ["evaluate", "--reader", str(world / "reader"), "--data", str(world / "questions.jsonl")]
    return [*given, *(["--corpus", str(world / "corpus")] if corpus else []), *more]


def report(given: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run([*given, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def test_json_has_the_keys_of_the_contract(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = report(arguments(world, "--passages", "2"), capsys)
    assert {"n", "em", "f1", "recall", "seconds", "reader"} <= record.keys()
    assert (record["n"], record["reader"], record["passages"]) == (8, str(world / "reader"), 2)
    assert 0 <= record["em"] <= record["f1"] <= 100
    assert list(record["recall"]) == ["1"]
    assert record["seconds"] > 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_the_report_says_what_was_computed_with(
    world: Path, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(world, "--limit", "1", "--passages", "1", "--max-tokens", "2")
    assert report([*given, "--precision", precision], capsys)["precision"] == precision
    assert report(given, capsys)["precision"] in ("float32", "bfloat16")  # as the machine has it


def test_contexts_are_what_they_say(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def read(context: str) -> dict[str, list[str]]:
        path = tmp_path / f"{context}.jsonl"
        report(arguments(world, "--context", context, "--predictions", str(path)), capsys)
        rows = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
        return {row["id"]: row["passage_ids"] for row in rows}

    half = len(IDS) // 2
    assert read("gold") == {f"q{i}": [i] for i in IDS}
    assert read("foreign-gold") == {f"q{i}": [IDS[(n + half) % len(IDS)]] for n, i in enumerate(IDS)}
    assert read("none") == {f"q{i}": [] for i in IDS}


def test_predictions_hold_a_row_a_question(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.jsonl"
    record = report(arguments(world, "--limit", "3", "--predictions", str(path)), capsys)
    rows = {row["id"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    assert record["n"] == len(rows) == 3
    assert rows.keys() == {f"q{i}" for i in IDS[:3]}
    assert rows["qp0"]["answers"] == FACTS[0][3]
    assert sum(row["em"] for row in rows.values()) / 3 * 100 == pytest.approx(record["em"])
    assert all({"prediction", "score", "passage_ids"} <= row.keys() for row in rows.values())


def test_decoding_reaches_the_reader_and_alternatives_the_predictions(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.jsonl"
    more = ["--beams", "3", "--n-best", "2", "--max-tokens", "3", "--length-penalty", "0"]
    report(arguments(world, "--limit", "2", "--predictions", str(path), *more), capsys)
    rows = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    assert all(len(row["alternatives"]) == 1 for row in rows)
    assert all(row["alternatives"][0]["score"] <= row["score"] for row in rows)


def test_passages_are_found_as_they_are_for_an_answer_or_by_words(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, path = tmp_path / "corpus", tmp_path / "out.jsonl"
    Corpus.build(world / "passages.jsonl", corpus, encoder=minilm, vectors=True).close()
    asked = {question.id: question.question for question in read_questions(world / "questions.jsonl")}
    given = [*arguments(world, "--passages", "3", "--predictions", str(path), corpus=False)]
    for by, way in (([], "both"), (["--by", "both"], "both"), (["--by", "words"], "words")):
        report([*given, "--corpus", str(corpus), *by], capsys)
        rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        read = {row["id"]: row["passage_ids"] for row in rows}
        with Corpus.open(corpus, minilm) as opened:
            found = {
                key: [hit.passage.id for hit in opened.search(question, 3, way)]
                for key, question in asked.items()
            }
        assert read == found
    assert run([*arguments(world), "--by", "both"]) == 1
    assert "--vectors` makes them" in capsys.readouterr().err


def test_questions_may_bring_their_passages(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [{"title": title, "text": text} for title, text, *_ in FACTS[:2]]
    path = write_rows(tmp_path / "own.jsonl", [{"question": "who?", "answers": ["Roald"], "ctxs": own}])
    given = ["evaluate", "--reader", str(world / "reader"), "--data", str(path)]
    assert report(given, capsys)["recall"] == {"1": 100}


def test_scores_of_passages_are_a_file_to_train_a_retriever_on(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scores.jsonl"
    report(arguments(world, "--limit", "3", "--passages", "4", "--scores", str(path)), capsys)
    scored = list(read_questions(path))
    asked = list(read_questions(world / "questions.jsonl"))[:3]
    assert {(q.id, q.question, q.answers) for q in scored} == {(q.id, q.question, q.answers) for q in asked}
    reader = Reader.from_pretrained(world / "reader")
    with Corpus.open(world / "corpus") as corpus:
        for question in scored:
            hits = [hit.passage for hit in corpus.search(question.question, 4)]
            assert [p.id for p in question.passages] == [p.id for p in hits]  # as they were retrieved
            shares = {
                e.passage.id: e.score
                for e in Answerer(reader, precision="as-is").read(question.question, hits).evidence
            }
            found = [math.exp(score) for score in question.scores]
            assert found == pytest.approx([shares[p.id] for p in hits], rel=0.1, abs=0.01)
            assert sum(found) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("characters", "together"),
    [(500, [20, 5]), (4000, [3] * 8 + [1]), (13_000, [1] * 25)],  # 20 questions, or 12,000 characters
)
def test_batches_are_as_large_as_the_cache_has_room_for(
    world: Path,
    tmp_path: Path,
    characters: int,
    together: list[int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    plain = answering.answer_batch

    def watched(runner: Any, asked: list[str], *more: Any, **how: Any) -> Any:
        sizes.append(len(asked))
        return plain(runner, asked, *more, **how)

    monkeypatch.setattr(answering, "answer_batch", watched)
    own = [{"title": "", "text": "word " * (characters // 5)}]
    rows = [{"question": f"who {n}?", "answers": ["Roald"], "ctxs": own} for n in range(25)]
    path = write_rows(tmp_path / "own.jsonl", rows)
    given = ["evaluate", "--reader", str(world / "reader"), "--data", str(path), "--max-tokens", "1"]
    assert report(given, capsys)["n"] == 25
    assert sizes == together


def test_a_person_reads_one_line(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments(world, "--limit", "2", "--passages", "1")) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "2 questions, EM " in out


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--passages", "0"], 2, "--passages is 0"),
        (["--limit", "0"], 2, "--limit is 0"),
        (["--n-best", "2"], 2, "--n-best is 2 but --beams 1"),
        (["--context", "golden"], 2, "expected one of retrieved, gold, near, foreign, foreign-gold, none"),
        (["--data", "missing.jsonl"], 1, "missing.jsonl"),
        (["--corpus", "missing.corpus"], 1, "missing.corpus"),
        (["--context", "foreign", "--limit", "1"], 1, "expected 2 or more, got 1"),
        (["--predictions", "no/such/folder/out.jsonl"], 1, "can't write predictions"),
        (["--scores", "no/such/folder/out.jsonl"], 1, "can't write scores"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    world: Path, more: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments(world, *more)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err


def test_without_corpus_and_passages_the_remedy_is_named(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments(world, corpus=False)) == 1
    assert "give --corpus" in capsys.readouterr().err
