"""A finished run is made longer: the same bits where its schedule allows, and a sentence where it doesn't."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fidkit.errors import ConfigError
from fidkit.train.longer import goes_on, unlike
from fidkit.train.loop.training import Trainer
from train.loop.test_training import state_of
from train.toy import world

CONSTANT = ("optimiser.schedule=constant", "evaluation.files={}")
MORE = "stages.1.steps=6"


def trained(folder: Path, *changes: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    Trainer(world(folder, *changes), rows.append).run()
    return rows


def assert_same_end(a: Path, b: Path) -> None:
    weights = [load_file(folder / "run" / "last" / "model.safetensors") for folder in (a, b)]
    torch.testing.assert_close(*weights, rtol=0, atol=0)
    first, second = state_of(a), state_of(b)
    for name in ("step", "stream", "health", "optimiser"):
        assert first[name] == second[name]
    for key in ("tensors", "random"):
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=0)


@pytest.mark.slow
def test_a_longer_run_ends_as_one_that_was_planned_so(tmp_path: Path) -> None:
    planned, longer = tmp_path / "planned", tmp_path / "longer"
    trained(planned, *CONSTANT, MORE)
    trained(longer, *CONSTANT)
    first, *rows = trained(longer, *CONSTANT, MORE)
    assert (first["kind"], first["keys"]) == ("change", {"stages.1.steps": [3, 6]})
    assert "unlike" not in first
    assert [row["step"] for row in rows] == [7, 8, 9]
    assert_same_end(planned, longer)
    assert json.loads((longer / "run" / "recipe.json").read_text())["stages"][1]["steps"] == 6
    assert trained(longer, *CONSTANT, MORE) == []


def test_what_a_planned_run_would_have_done_otherwise_is_said(tmp_path: Path) -> None:
    trained(tmp_path, "evaluation.files={}")
    first, *rows = trained(tmp_path, "evaluation.files={}", MORE)
    assert first["unlike"] == [
        'with optimiser.schedule = "linear", steps 5 to 6 had the rates of a run of 6 steps, not of 9'
    ]
    assert rows[-1]["step"] == 9


def test_a_stage_that_is_over_cannot_be_made_longer(tmp_path: Path) -> None:
    trained(tmp_path, *CONSTANT)
    log = (tmp_path / "run" / "log.jsonl").read_text()
    for change in ("stages.0.steps=5", "stages.1.steps=2"):
        with pytest.raises(
            ConfigError, match=r"steps was 3, now \d.* only what comes after step 6 may change"
        ):
            Trainer(world(tmp_path, *CONSTANT, change))
    with pytest.raises(ConfigError, match=r"stages.1.questions was 2, now 5"):
        Trainer(world(tmp_path, *CONSTANT, MORE, "stages.1.questions=5"))
    assert (tmp_path / "run" / "log.jsonl").read_text() == log


def test_an_interrupted_run_may_be_planned_anew_from_where_it_stands(tmp_path: Path) -> None:
    before = world(tmp_path, *CONSTANT)
    first, second = world(tmp_path, *CONSTANT, "stages.0.steps=2"), world(tmp_path, *CONSTANT, MORE)
    assert [goes_on(before, first, done) for done in range(5)] == [False, True, True, False, False]
    assert [goes_on(before, second, done) for done in range(7)] == [False, *[True] * 6]


def test_auxiliary_losses_that_faded_are_said(tmp_path: Path) -> None:
    changes = [*CONSTANT, "stages.1.steps=20", "stages.1.auxiliary=1.0"]
    before, now = world(tmp_path, *changes), world(tmp_path, *changes, "stages.1.steps=30")
    [said] = unlike(before, now, 23)
    assert said.startswith("auxiliary losses of steps 22 to 23 had the weight")
    assert unlike(before, now, 21) == []
