"""Pre-training on a small world: with and without it, every run once."""

import sys
from pathlib import Path
from typing import Any

import pretraining
import pytest
import training

from fidkit.bench.rows import read
from small_data import write_data

SHORT = ["--set", "optimiser.warmup=1", "stages.0.steps=2", "stages.0.questions=2", "log_every=1"]
SHORT += ["--pretrain-set", "sources.text.input_tokens=32"]
SHORT += ["--finetune-set", "stages.1.steps=1", "stages.1.questions=2"]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the experiment; returns all its rows."""
    data, corpus = write_data(tmp_path / "data")

    def run(*more: str) -> list[dict[str, Any]]:
        typed = ["pretraining.py", "--data", str(data), "--corpus", str(corpus), "--limit", "2"]
        typed += ["--preset", "tiny-fid", "--runs", str(tmp_path / "runs")]
        typed += ["--to", str(tmp_path / "pretraining.jsonl"), *SHORT, *more]
        monkeypatch.setattr(sys, "argv", typed)
        pretraining.main()
        return list(read(tmp_path / "pretraining.jsonl"))

    return run


@pytest.mark.slow
def test_every_run_has_its_row_once(start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = start()
    assert [(row["stage"], row["objective"]) for row in found] == [
        ("pretrain", "span-corruption"),
        ("finetune", "span-corruption"),
        ("finetune", None),
    ]
    assert [len(row["curve"]) for row in found] == [2, 3, 3]
    assert 8 < found[0]["text_loss"] < 12  # hardly trained: near the logarithm of the vocabulary's size
    starts = [row["curve"][0]["loss"] for row in found[1:]]
    assert starts[0] != starts[1]  # other weights learn the same questions
    assert found[1]["squad"]["n"] == 2
    monkeypatch.setattr(training, "train", None)  # nothing is left to do
    assert start() == found


@pytest.mark.slow
def test_a_mixture_has_rows_of_its_own(start) -> None:
    shorter = ["--pretrain-set", "sources.text.input_tokens=32", "held_out=[]"]
    shorter += [f"stages.{n}.{key}=2" for n in range(3) for key in ("steps", "questions")]
    found = start("--objectives", "mixture", *shorter)
    assert [(row["stage"], row["objective"]) for row in found] == [
        ("pretrain", "mixture"),
        ("finetune", "mixture"),
        ("finetune", None),
    ]
    assert found[0]["text_tokens"] == round(0.15 * 3 * 2 * 2 * 32)
    assert len(found[0]["curve"]) == 6


@pytest.mark.slow
def test_more_seeds_share_the_pre_training(start) -> None:
    found = start("--seeds", "1", "2")
    assert [row["stage"] for row in found] == ["pretrain"] + 4 * ["finetune"]
