"""Upcycling on a small world: every stage has its row, once, and the rows become tables and a plot."""

import sys
from pathlib import Path
from typing import Any

import pytest
import render
import repairs
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


def row(way: str, percent: int, seed: int, f1: float, *, every: int = 2) -> dict[str, Any]:
    scores = {"n": 10, "em": f1 / 2, "f1": f1, "log_likelihood": -100 / f1}
    return {
        "way": way, "percent": percent, "seed": seed, "every": every, "origin": "own", "kv_heads_from": "svd",
        "kv_heads": None if every == 1 else 1, "steps": 39 * percent, "questions": 12, "passages": 2,
        "rate": 1e-3, "temperature": 2.0 if way == "distilled" else None, "cpu_seconds": 60.0,
        "command": "typed", "hardware": {"cpu": "a CPU"}, "squad": scores, "newwiki": scores,
    }  # fmt: skip


CONVERTED = [row("converted", 0, 0, 40.0, every=1), row("converted", 0, 0, 2.0)]


def test_shares_of_the_original_are_judged() -> None:
    rows = [*CONVERTED, *(row("uptrained", 10, seed, f1) for seed, f1 in enumerate((37.0, 39.0, 41.0)))]
    rows += [row("uptrained", 5, 0, 10.0), row("distilled", 10, 0, 37.9)]
    text = repairs.repairs(rows)
    assert "| uptraining | 10 % (390) | 19.50 (18.50 to 20.50) | 39.00 (37.00 to 41.00) |" in text
    assert "| just converted | 0 | 1.00 | 2.00 | -50.00 | 5 % |" in text
    assert "\n- Holds: uptraining with 10 %" in text
    assert "uptraining with 5 %" not in text
    assert "\n- Does not hold: distillation with 10 % of the steps brings back 95 % of F1 (95 % on" in text
    assert "1 to 3 seeds a line; 12 questions of 2 passages a step; 5 minutes" in text
    assert "\n3 seeds; 12 questions of 2 passages a step; 3 minutes" in repairs.repairs(rows[:5])


def test_other_shapes_have_lines_of_their_own() -> None:
    kept = {"kv_heads": None}
    rows = [*CONVERTED, {**row("converted", 0, 0, 20.0), **kept}, row("uptrained", 10, 1, 30.0)]
    rows.append({**row("uptrained", 20, 1, 39.0), **kept})
    mean = {"kv_heads_from": "mean"}
    rows += [{**row("converted", 0, 0, 0.5), **mean}, {**row("uptrained", 10, 1, 10.0), **mean}]
    text = repairs.repairs(rows)
    assert "| just converted | 0 | 1.00 |" in text
    assert "| just converted (K = 2, all key/value heads) | 0 | 10.00 |" in text
    assert "| uptraining (K = 2, all key/value heads) | 20 % (780) | 19.50 |" in text
    assert "| just converted (K = 2, 1 key/value heads, by their mean) | 0 | 0.25 |" in text
    assert "| last layer of 2, own | all | 10.00 |" in repairs.conversions(rows)
    assert "| last layer of 2, own | 1, mean | 0.25 |" in repairs.conversions(rows)
    rows.append({**row("uptrained", 10, 1, 31.0), "rate": 5e-4})
    rows.append({**row("distilled", 10, 1, 32.0), "temperature": 1.0})
    text = repairs.repairs(rows)
    assert "| uptraining, rate 0.0005 | 10 % (390) | 15.50 |" in text
    assert "| distillation, temperature 1 | 10 % (390) | 16.00 |" in text
    (em, *_) = repairs.panels(rows)
    assert em["lines"]["uptraining (K = 2, all key/value heads)"] == [(0, [10.0]), (20, [19.5])]


def test_nothing_measured_is_said() -> None:
    assert repairs.conversions([]) == repairs.repairs([]) == repairs.repairs(CONVERTED) == "Not measured yet."
    assert repairs.panels(CONVERTED) == []


def test_the_plot_begins_with_what_was_converted(tmp_path: Path) -> None:
    rows = [*CONVERTED, row("uptrained", 10, 1, 37.0), row("uptrained", 10, 2, 39.0)]
    rows.append(row("continued", 10, 1, 41.0, every=1))
    (em, *_) = repairs.panels(rows)
    assert em["level"] == ("the original", 20.0)
    assert em["lines"]["uptraining"] == [(0, [1.0]), (10, [18.5, 19.5])]
    assert em["lines"][repairs.WAYS["continued"]] == [(0, [20.0]), (10, [20.5])]
    for number in range(2):
        render.plots.draw(repairs.panels(rows), tmp_path / f"{number}.png")
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()
