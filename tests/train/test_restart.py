"""A run that diverges goes back by itself, and on with a smaller rate; not for ever."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fidkit.errors import FidkitError
from fidkit.train.loop import schedule
from fidkit.train.loop.schedule import rate
from fidkit.train.loop.training import Trainer
from fidkit.train.specs import OptimiserSpec
from train.toy import world

RATE = 1e-3
STAGE = "stages=[{ steps = 50, questions = 4, mix = { facts = 1.0 } }]"
CALM = [
    STAGE,
    "dropout=0.0",
    "evaluation.files={}",
    "optimiser.warmup=1",
    "optimiser.decay_from=1.0",
    "health.window=20",
]


def rows(folder: Path) -> list[dict[str, Any]]:
    return [*map(json.loads, (folder / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines())]


def planted(at: range, times: int) -> Callable[[int, int, OptimiserSpec], float]:
    """A schedule that is a thousand times too high over some steps, the first `times` times they come."""
    visits = dict.fromkeys(at, 0)

    def high(step: int, steps: int, spec: OptimiserSpec) -> float:
        usual = rate(step, steps, spec)
        return 1000 * usual if visits.get(step, times) < times else usual

    def counting(step: int, steps: int, spec: OptimiserSpec) -> float:
        value = high(step, steps, spec)
        if step in visits and value > usual_limit(spec):
            visits[step] += 1
        return value

    return counting


def usual_limit(spec: OptimiserSpec) -> float:
    return 10 * spec.rate


@pytest.mark.parametrize("save_every", [10, pytest.param(35, marks=pytest.mark.slow)])
def test_a_planted_divergence_is_found_rolled_back_and_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_every: int
) -> None:
    # Steps 35 and 36; with a save every 35 steps, the last save is from when it had begun.
    monkeypatch.setattr(schedule, "rate", planted(range(34, 36), times=1))
    recipe = world(tmp_path, *CALM, f"save_every={save_every}", "health.restarts=2", "log_every=1")
    trainer = Trainer(recipe)
    trainer.run()
    found = rows(tmp_path)
    [restart] = [row for row in found if row["kind"] == "restart"]
    assert 35 <= restart["step"] <= 44
    assert "loss" in restart["reason"] or "norm" in restart["reason"]
    assert restart["back_to"] in {10: (20, 30), 35: (0,)}[save_every]
    assert restart["rate_factor"] == 0.1
    after = found[found.index(restart) + 1 :]
    assert [row["step"] for row in after] == list(range(restart["back_to"] + 1, 51))
    assert [row["rate"] for row in after] == pytest.approx([RATE / 10] * len(after))
    assert after[-1]["loss"] < found[0]["loss"]
    assert trainer.restarts == 1
    # Started again it is done, and knows so.
    again = Trainer(recipe)
    again.run()
    assert (again.step, again.restarts, len(rows(tmp_path))) == (50, 1, len(found))


@pytest.mark.slow
def test_a_kill_after_a_restart_forgets_neither_it_nor_the_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(row: dict[str, Any]) -> None:
        if row["kind"] == "train" and row["rate"] < RATE / 5:
            raise Killed

    monkeypatch.setattr(schedule, "rate", planted(range(34, 36), times=1))
    recipe = world(tmp_path, *CALM, "save_every=10", "log_every=1")
    with pytest.raises(Killed):
        Trainer(recipe, kill).run()
    monkeypatch.undo()
    Trainer(recipe).run()
    assert [row["kind"] for row in rows(tmp_path)].count("restart") == 1
    assert rows(tmp_path)[-1]["rate"] == pytest.approx(RATE / 10)


@pytest.mark.slow
def test_a_run_that_diverges_again_and_again_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = world(tmp_path, *CALM, "save_every=5", "health.restarts=2", "log_every=1")
    trainer = Trainer(recipe)
    step = trainer.optimiser.step

    def broken(*args: Any) -> Any:
        if trainer.step == 23:
            torch.nn.init.constant_(trainer.reader.decoder.norm.weight, torch.nan)
        return step(*args)

    monkeypatch.setattr(trainer.optimiser, "step", broken)
    with pytest.raises(FidkitError, match=r"step 25 diverged \(.*nan.* after 2 of 2 restarts"):
        trainer.run()
    restarts = [row for row in rows(tmp_path) if row["kind"] == "restart"]
    assert len(restarts) == 2
    # What is left is healthy.
    Trainer(recipe).resume()
