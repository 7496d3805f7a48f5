"""A save goes on beside training, and a failed one leaves the last good one."""

import os
import pickle
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fidkit.checkpoint.moments import Moments
from fidkit.errors import CheckpointError, FidkitError
from fidkit.reader import Reader
from fidkit.train.loop import state
from fidkit.train.loop.checkpoints import OPTIMISER, STATE
from fidkit.train.loop.training import Trainer
from train.toy import world

STAGE = "stages=[{ steps = 6, questions = 2, mix = { facts = 1.0 } }]"
QUICK = [STAGE, "dropout=0.0", "evaluation.files={}"]


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """The system refuses to write more, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def saved_step(folder: Path) -> int:
    return torch.load(folder / "run" / "last" / STATE, weights_only=True)["step"]


@pytest.mark.parametrize("room", [100_000, None])
def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path, room: int | None) -> None:
    recipe = world(tmp_path, *QUICK)
    trainer = Trainer(recipe)
    trainer.train_step()
    trainer.save()
    trainer.checkpoints.finish()
    trainer.train_step()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "last").rglob("*") if p.is_file()}
    # Room for the weights but not for the optimiser's state, which is twice as large; or for neither.
    weights = os.path.getsize(tmp_path / "run" / "last" / "model.safetensors")
    with no_file_larger_than(room or weights + 1000):
        trainer.save()
        with pytest.raises(FidkitError, match=r"checkpoint of step 2 can't be written .*make room") as error:
            trainer.checkpoints.finish()
    assert "\n" not in str(error.value)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert not (tmp_path / "run" / "last.new").exists()
    Trainer(recipe).run()  # there is room again
    assert saved_step(tmp_path) == 6


@pytest.mark.parametrize("free", [0, 1 << 30])
def test_the_error_says_what_the_system_says_however_full_the_disk_is(
    tmp_path: Path, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(world(tmp_path, *QUICK))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    with no_file_larger_than(200_000):
        trainer.save()
        with pytest.raises(FidkitError, match=r"can't be written \(.*\); .*make room") as error:
            trainer.checkpoints.finish()
    assert "File too large" in str(error.value)


def test_a_full_disk_ends_the_run_with_an_error(tmp_path: Path) -> None:
    recipe = world(tmp_path, *QUICK, "save_every=2")
    with no_file_larger_than(200_000), pytest.raises(FidkitError, match="there is none yet"):
        Trainer(recipe).run()
    Trainer(recipe).run()
    assert saved_step(tmp_path) == 6


def test_what_is_saved_is_the_step_at_which_saving_began(tmp_path: Path) -> None:
    trainer = Trainer(world(tmp_path, *QUICK))
    trainer.train_step()
    weights = {name: p.detach().clone() for name, p in trainer.reader.named_parameters()}
    moment = next(iter(trainer.optimiser.state.values()))["exp_avg"].clone()
    trainer.save()
    for _ in range(3):
        trainer.train_step()
    trainer.checkpoints.finish()
    for name, p in Reader.from_pretrained(tmp_path / "run" / "last").named_parameters():
        assert torch.equal(p, weights[name]), name
    kept = state.read(tmp_path / "run" / "last" / OPTIMISER, {}, None)
    first = state.names_of(trainer.optimiser, trainer._parameters())[0]
    assert torch.equal(kept[f"optimiser/{first}/exp_avg"], moment)


def test_the_save_before_is_kept_only_for_going_back(tmp_path: Path) -> None:
    for name, restarts in (("with", 1), ("without", 0)):
        recipe = world(tmp_path / name, *QUICK, "save_every=2", f"health.restarts={restarts}")
        Trainer(recipe).run()
        assert (tmp_path / name / "run" / "previous").exists() == (restarts > 0)


def test_a_save_of_an_ill_run_doesn_t_displace_the_healthy_one(tmp_path: Path) -> None:
    trainer = Trainer(world(tmp_path, *QUICK))
    for sound in (True, True, False, False):
        trainer.train_step()
        trainer.checkpoints.save(trainer.reader, Moments({}, 0), {}, {"step": trainer.step}, sound=sound)
        trainer.checkpoints.finish()
    trainer.checkpoints.roll_back(trainer.step)
    assert trainer.checkpoints.record() == {"step": 1}


class Harmful:
    def __reduce__(self) -> tuple:
        return os.system, ("touch harmed",)


def test_a_checkpoint_that_holds_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trainer = Trainer(world(tmp_path, *QUICK))
    trainer.save()
    trainer.checkpoints.finish()
    refused = r"posix\.system has no place in a checkpoint\); delete .*last to start over"
    (tmp_path / "run" / "last" / OPTIMISER / ".metadata").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(CheckpointError, match=refused):
        trainer.resume()
    torch.save({"step": Harmful()}, tmp_path / "run" / "last" / STATE)
    with pytest.raises(CheckpointError, match=rf"state\.pt: can't be read \({refused}"):
        trainer.resume()
    assert not (tmp_path / "harmed").exists()
