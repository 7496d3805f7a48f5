"""Several processes train as one: the same steps as a process alone."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from fidkit.cli.app import run
from fidkit.train.distributed.group import Group
from fidkit.train.loop.training import Trainer
from launched import group
from train.toy import world, write_world

# Without auxiliary losses: theirs are means over each process's own share.
CHANGES = ["dropout=0.0", "stages.0.auxiliary=0.0"]


def trained_by(processes: int, folder: Path) -> dict[str, torch.Tensor]:
    folder.mkdir()
    recipe = write_world(folder)
    changes = [f"data={folder}", f"output={folder / 'run'}", *CHANGES]
    arguments = ["train", str(recipe), *(x for change in changes for x in ("--set", change))]
    group(processes, run, arguments, says=folder / "said")
    return load_file(folder / "run" / "last" / "model.safetensors")


def losses(folder: Path) -> list[float]:
    rows = map(json.loads, (folder / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return [row["loss"] for row in rows if row["kind"] == "train"]


def test_two_processes_equal_one(tmp_path):
    Trainer(world(tmp_path / "one", *CHANGES)).run()
    one = load_file(tmp_path / "one" / "run" / "last" / "model.safetensors")
    two = trained_by(2, tmp_path / "two")
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-4, atol=2e-4)


def test_a_process_alone_is_a_group_of_one():
    group = Group.join()
    gradient = torch.ones(3)
    parameter = torch.nn.Parameter(torch.zeros(3))
    parameter.grad = gradient
    group.sum_gradients([parameter])
    assert group.leads
    assert group.share([1, 2, 3]) == [1, 2, 3]
    assert group.gather("x") == ["x"]
    assert parameter.grad is gradient


def test_shares_are_a_partition():
    items = list(range(7))
    shares = [Group(rank, 3).share(items) for rank in range(3)]
    assert sorted(x for share in shares for x in share) == items
