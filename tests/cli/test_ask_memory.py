"""Asking with a stored memory: the same answers, and what is said where it is missing or another reader's."""

import json
from pathlib import Path

import pytest

from fidkit.cli.app import run
from fidkit.cli.ask import RAW
from fidkit.engine.fingerprint import memory_fingerprint
from fidkit.passages import Corpus
from fidkit.reader import Reader

QUESTION = "where does tea come from?"


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("readers")
    for name, seed in (("tiny-lumen", 0), ("other", 1), ("tiny-memoryfid", 0), ("tiny-glimmer", 0)):
        preset = "tiny-lumen" if name == "other" else name
        Reader.from_preset(preset, seed=seed).save_pretrained(folder / name)
    return {path.name: str(path) for path in folder.iterdir()}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "tea.md").write_text("# Tea\n\nTea comes from China.\n")
    (docs / "coffee.txt").write_text("Coffee comes from Ethiopia, tea does not.")
    Corpus.build([docs], to=tmp_path / "corpus").close()
    return tmp_path / "corpus"


def asked(corpus: Path, reader: str, capsys: pytest.CaptureFixture[str], *more: str) -> dict:
    command = ["ask", QUESTION, "--in", str(corpus), "--reader", reader, "--json", *more]
    assert run([*command, "--precision", "float32"]) == 0
    record = json.loads(capsys.readouterr().out)
    return record | {"notes": [note for note in record["notes"] if note != RAW]}


def remember(corpus: Path, reader: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["memory", "build", str(corpus), "--reader", reader, "--codec", "float32"]
    assert run([*command, "--precision", "float32"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize("name", ["tiny-lumen", "tiny-memoryfid", "tiny-glimmer"])
def test_the_same_answer_with_and_without(readers, name: str, corpus: Path, capsys) -> None:
    without = asked(corpus, readers[name], capsys)
    remember(corpus, readers[name], capsys)
    stored = asked(corpus, readers[name], capsys)
    left_out = asked(corpus, readers[name], capsys, "--no-memory")
    for found in (stored, left_out):
        assert [found[key] for key in ("answer", "score", "notes")] == [
            without["answer"],
            without["score"],
            [],
        ]
        assert found["evidence"] == without["evidence"]
        assert "memory" in found["timings_ms"]


def test_a_passage_that_is_not_stored_is_encoded_and_said(readers, corpus: Path, capsys) -> None:
    remember(corpus, readers["tiny-lumen"], capsys)
    (corpus.parent / "docs" / "tea.md").write_text("# Tea\n\nTea comes from China, and from Assam.\n")
    Corpus.build([corpus.parent / "docs"], to=corpus).close()
    found = asked(corpus, readers["tiny-lumen"], capsys)
    assert [note.split(";")[0] for note in found["notes"]] == [
        "1 of 2 passages have no stored memory and were encoded now"
    ]
    assert f"`fidkit memory build {corpus} --reader {readers['tiny-lumen']}`" in found["notes"][0]
    assert "Assam" in json.dumps(found["evidence"])
    remember(corpus, readers["tiny-lumen"], capsys)
    again = asked(corpus, readers["tiny-lumen"], capsys)
    assert (again["notes"], again["evidence"]) == ([], found["evidence"])


def test_a_memory_of_another_reader_is_refused(readers, corpus: Path, capsys) -> None:
    remember(corpus, readers["tiny-lumen"], capsys)
    assert run(["ask", QUESTION, "--in", str(corpus), "--reader", readers["other"]]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    for name in ("tiny-lumen", "other"):
        assert memory_fingerprint(Reader.from_pretrained(readers[name])) in err
    assert f"fidkit memory build {corpus} --reader {readers['other']} --replace" in err
    assert asked(corpus, readers["other"], capsys, "--no-memory")["notes"] == []


def test_evaluation_reads_the_memory(readers, corpus: Path, tmp_path: Path, capsys) -> None:
    data = tmp_path / "qa.jsonl"
    data.write_text(json.dumps({"question": QUESTION, "target": "China"}) + "\n")
    remember(corpus, readers["tiny-lumen"], capsys)
    command = ["evaluate", "--data", str(data), "--corpus", str(corpus), "--json"]
    assert run([*command, "--reader", readers["tiny-lumen"]]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 1
    assert run([*command, "--reader", readers["other"]]) == 1
    assert "--replace" in capsys.readouterr().err
    assert run([*command, "--reader", readers["other"], "--no-memory"]) == 0
