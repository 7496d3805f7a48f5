"""The reader that comes with fidkit: small, loadable, and able to read."""

import json

import pytest

from fidkit import Passage, assets
from fidkit.answerer import Answerer
from fidkit.cli.app import run
from fidkit.preset import named
from fidkit.reader import Reader

MOST_BYTES = 32_000_000
PASSAGES = [
    Passage("a", "South Pole", "Roald Amundsen reached the South Pole in December 1911."),
    Passage("b", "Tea", "Tea comes from China."),
]


def test_it_is_small_and_has_a_card_and_a_plain_architecture() -> None:
    directory = assets.reader()
    assert sum(path.stat().st_size for path in directory.iterdir()) <= MOST_BYTES
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= {
        path.name for path in directory.iterdir()
    }
    shape = {"dropout": 0.0}
    assert Reader.from_pretrained("pocket").config.replace(**shape) == named("pocket-fid").replace(**shape)


def test_it_answers_from_its_passages() -> None:
    answer = Answerer("pocket").read("Who reached the South Pole in December 1911?", PASSAGES)
    assert any(answer.text in f"{passage.title} {passage.text}" for passage in PASSAGES)
    assert answer.text
    assert answer.evidence[0].passage.id == "a"
    assert sum(evidence.score for evidence in answer.evidence) == pytest.approx(1, abs=1e-5)


def test_it_is_what_ask_uses_on_the_projects_own_documents(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ask", "Which layers have cross-attention?", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["reader"] == "pocket"
    assert len(record["evidence"]) > 1
