"""Upcycling on a small world: every stage has its row, once."""

import sys
from pathlib import Path
from typing import Any

import pytest
import training
import upcycling

from fidkit.bench.rows import read
from fidkit.preset import named
from fidkit.reader import Reader
from fidkit.tokens import Tokenizer
from small_data import write_data

SHORT = ["stages.0.steps=2", "stages.0.questions=2", "optimiser.warmup=1", "save_every=1"]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the experiment; returns all its rows."""
    sparse = named("tiny-fido")
    config = sparse.replace(cross_attention_every=1, self_kv_heads=None, cross_kv_heads=None)
    original = Reader(config, Tokenizer.bundled(config))
    original.save_pretrained(tmp_path / "original")
    data, corpus = write_data(tmp_path / "data")

    def run(*more: str) -> list[dict[str, Any]]:
        typed = ["upcycling.py", "--data", str(data), "--corpus", str(corpus), "--limit", "2"]
        typed += ["--original", str(tmp_path / "original"), "--runs", str(tmp_path / "runs")]
        monkeypatch.setattr(sys, "argv", [*typed, "--to", str(tmp_path / "upcycling.jsonl"), *more])
        upcycling.main()
        return list(read(tmp_path / "upcycling.jsonl"))

    return run


@pytest.mark.slow
def test_every_stage_has_its_row_once(start, monkeypatch: pytest.MonkeyPatch) -> None:
    converted = start("--seeds")
    assert [row["way"] for row in converted] == ["converted"] * len(upcycling.SHAPES)
    likelihoods = {row["squad"]["log_likelihood"] for row in converted}
    assert len(likelihoods) == len(upcycling.SHAPES)  # each shape is another reader

    found = start("--seeds", "1", "--ways", *upcycling.WAYS, "--set", *SHORT)
    trained = [(row["way"], row["percent"], row["every"], row["steps"]) for row in found[len(converted) :]]
    assert trained == [
        ("uptrained", 5, 2, 2),
        ("uptrained", 10, 2, 2),
        ("distilled", 10, 2, 2),
        ("continued", 10, 1, 2),
    ]
    monkeypatch.setattr(training, "train", None)  # nothing is left to do
    assert start("--seeds", "1", "--ways", *upcycling.WAYS, "--set", *SHORT) == found


@pytest.mark.slow
def test_a_run_that_was_cut_off_goes_on(start, monkeypatch: pytest.MonkeyPatch) -> None:
    step = training.Trainer.train_step

    def killed(trainer):
        if trainer.step == 1:
            raise KeyboardInterrupt
        return step(trainer)

    monkeypatch.setattr(training.Trainer, "train_step", killed)
    typed = ["--seeds", "1", "--ways", "distilled", "--set", *SHORT]
    with pytest.raises(KeyboardInterrupt):
        start(*typed)
    began = []
    monkeypatch.setattr(
        training.Trainer, "train_step", lambda trainer: began.append(trainer.step) or step(trainer)
    )
    assert start(*typed)[-1]["way"] == "distilled"
    assert began == [1]


@pytest.mark.slow
def test_the_shares_are_of_the_original_s_steps(start, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def noted(recipe: Path, changes: list[str]):
        asked.append([recipe.name, *changes])
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", noted)
    with pytest.raises(KeyboardInterrupt):
        start("--seeds", "1", "--ways", "uptrained")
    assert asked[0][0] == "uptrain.toml"
    assert "stages.0.steps=195" in asked[0]  # 5 % of 3,200 + 700
    assert "optimiser.rate=0.001" in asked[0]
    with pytest.raises(KeyboardInterrupt):
        start("--seeds", "1", "--ways", "distilled", "--percents", "20", "--kv-heads", "0")
    assert "stages.0.steps=780" in asked[1]
    assert "stages.0.distil_temperature=2.0" in asked[1]
    assert any(change.endswith("converted-2-all") for change in asked[1])
