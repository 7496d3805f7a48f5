"""What pre-training is worth, told and drawn of rows."""

from typing import Any

from render import beginnings


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
