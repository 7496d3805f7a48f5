"""Speed is counted as the cost module counts it, and shown in the log."""

import json
from pathlib import Path

import pytest
import torch

from fidkit.cost import Hardware, Workload, total_flops
from fidkit.cost.hardware import save_local
from fidkit.cost.workload import COMPUTED
from fidkit.preset import named
from fidkit.train.data.stream import Example
from fidkit.train.distributed.group import Group
from fidkit.train.loop.meter import Meter, count
from fidkit.train.loop.training import Trainer
from train.toy import world

EXAMPLES = [Example([3, 4], [[5, 6, 7], [8, 9, 1]], [9, 1]), Example([3, 5], [[5, 6, 7], [8, 9, 1]], [7, 1])]
SLOW = Hardware("slow", {"float32": 1e-3, "bfloat16": 2e-3}, 1, 1, 1, "made up")


@pytest.mark.parametrize("processes", [1, 4])
def test_processes_on_cpus_share_one_machine(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    save_local(SLOW)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Meter(named("tiny-fid"), "float32", Group(0, processes)).peak == 1e9


@pytest.mark.parametrize("name", ["tiny-fid", "tiny-lumen", "tiny-fido"])
def test_the_share_of_the_peak_is_operations_over_time_and_rate(name: str) -> None:
    save_local(SLOW)
    meter = Meter(named(name), "float32", Group())
    for _ in range(3):
        meter.add({"loss": 2.0, "norm": 1.0}, count(EXAMPLES))
    meter.since -= 10.0
    row = meter.row(steps_left=6)
    workload = Workload(6, 2, 3, 2, 2, dtype="float32", memory=COMPUTED)
    flops = total_flops(named(name), workload, training=True)
    assert row["peak_share"] == pytest.approx(flops / 10 / 1e9, abs=2e-4)
    assert row["tokens_per_s"] == round(3 * sum(e.tokens for e in EXAMPLES) / 10)
    assert (row["loss"], row["norm"], row["left_s"]) == (2.0, 1.0, 20)
    assert (meter.steps, meter.counts, meter.losses) == (0, {}, {})


def test_the_log_has_it_where_the_machine_is_known(tmp_path: Path) -> None:
    changes = ["stages=[{ steps = 2, questions = 2, mix = { facts = 1.0 } }]", "evaluation.files={}"]
    Trainer(world(tmp_path / "unknown", *changes)).run()
    save_local(SLOW)
    Trainer(world(tmp_path / "known", *changes, "tensorboard=true")).run()
    unknown, known = (
        [*map(json.loads, (tmp_path / name / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines())]
        for name in ("unknown", "known")
    )
    assert not any("peak_share" in row for row in unknown)
    assert all(row["peak_share"] > 0 for row in known)
    assert [row["left_s"] for row in known][-1] == 0


def test_tensorboard_shows_the_log(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    Trainer(world(tmp_path, "tensorboard=true")).run()
    shown = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    rows = [*map(json.loads, (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines())]
    for tag, kind, key in (("train/loss", "train", "loss"), ("train/rate", "train", "rate")):
        wanted = [(row["step"], row[key]) for row in rows if row["kind"] == kind]
        assert [(e.step, pytest.approx(e.value)) for e in shown.Scalars(tag)] == wanted
    assert [e.step for e in shown.Scalars("evaluation/facts/f1")] == [4, 6]
