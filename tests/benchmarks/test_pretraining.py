"""Pre-training on a small world: with and without it, every run once, and the margin between them."""

import sys
from pathlib import Path
from typing import Any

import beginnings
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


def row(
    stage: str, objective: str | None, seed: int, f1: float, initialisation: str = "t5"
) -> dict[str, Any]:
    scores = {"em": f1 / 2, "f1": f1, "log_likelihood": -100 / f1}
    losses = [{"step": 20, "cpu_seconds": 10.0, "loss": 9.0}, {"step": 40, "cpu_seconds": 20.0, "loss": 6.5}]
    measured = {"text_tokens": 2_048_000, "text_loss": 6.75} if stage == "pretrain" else {"squad": scores}
    return {
        "stage": stage, "objective": objective, "seed": seed, "initialisation": initialisation,
        "steps": 1000, "questions": 8, "passages": 1, "cpu_seconds": 120.0, "curve": losses,
        "command": "typed", "hardware": {"cpu": "a CPU"}, **measured,
    }  # fmt: skip


def test_the_margin_is_of_means_over_seeds() -> None:
    rows = [row("finetune", None, 1, 5.0), row("finetune", None, 2, 5.0)]
    rows += [row("finetune", "span-corruption", 1, 10.0), row("finetune", "span-corruption", 2, 20.0)]
    rows += [row("finetune", "mixture", 1, 8.0, "matching")]
    text = beginnings.pretraining(rows)
    assert "gains by pre-training with text +5.00 EM, +10.00 F1 and +12.50 nats on squad." in text
    assert "| T5's weights | text | 1,000 | 7.50 (5.00 to 10.00) | 15.00 (10.00 to 20.00) |" in text
    assert text.index("| text |") < text.index("| none |") < text.index("| weights that match and copy |")
    assert text.count("gains") == 1  # nothing to compare the mixture with


def test_the_fall_of_the_loss_is_told_and_drawn() -> None:
    rows = [row("pretrain", "span-corruption", 1, 1.0), row("finetune", None, 1, 5.0)]
    text = beginnings.pretraining(rows)
    assert "reads 2.0 million tokens of text; the loss falls from 9.00 nats" in text
    assert "(up to step 20) to 6.50. Other text to restore costs 6.75 nats" in text
    assert "gains" not in text  # nothing to compare with
    first, second = beginnings.panels(rows)
    assert first["lines"] == {"T5's weights; text": ([20, 40], [9.0, 6.5])}
    assert second["title"].startswith("Fine-tuning")
    assert second["lines"] == {"T5's weights": ([20, 40], [9.0, 6.5])}
    assert beginnings.pretraining([]) == "Not measured yet."
    assert beginnings.panels([]) == []
