"""A run that the system kills, at any moment, ends as one that was left alone: the same bits."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from fidkit.cli.app import run
from launched import command
from train.loop.test_training import assert_same_run
from train.toy import write_world

STEPS = 12
STAGE = (
    f"stages=[{{ steps = {STEPS}, questions = 4, mix = {{ cloze = 1.0, facts = 1.0 }}, auxiliary = 1.0 }}]"
)
SETTINGS = [STAGE, "save_every=3", "log_every=1", "evaluation.every=9", "evaluation.limit=2", "threads=1"]


def words(folder: Path) -> list[str]:
    folder.mkdir(exist_ok=True)
    settings = [f"data={folder}", f"output={folder / 'run'}", *SETTINGS]
    changes = [word for setting in settings for word in ("--set", setting)]
    return ["train", str(write_world(folder)), *changes]


def last_step(folder: Path) -> int:
    log = folder / "run" / "log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    return json.loads(whole[-1])["step"] if whole else 0


def killed_after(folder: Path, step: int) -> None:
    """Start or go on, and kill -9 once `step` is in the log, wherever the process is then."""
    before = last_step(folder)
    process = command(words(folder), says=folder / "said")
    while process.is_alive() and (last_step(folder) < step or before == step):
        time.sleep(0.005)
        before = before if last_step(folder) == before else -1  # the log was taken back to the checkpoint
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.slow
def test_a_run_killed_at_random_steps_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run(words(whole)) == 0
    for step in sorted(random.Random(10).sample(range(1, STEPS - 1), 10)):
        killed_after(killed, step)
    assert run(words(killed)) == 0
    assert_same_run(whole, killed)
