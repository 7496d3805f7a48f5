"""Second moments in a file beside a checkpoint, and out again."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fidkit.checkpoint.moments import FILE, VERSION, Moments, check_moments, load_moments, save_moments
from fidkit.errors import CheckpointError

GIVEN = Moments({"a.weight": torch.rand(3, 2), "b.weight": torch.rand(4).double()}, steps=123)


def test_in_a_file_and_out_again(tmp_path: Path) -> None:
    assert load_moments(tmp_path) is None
    save_moments(GIVEN, tmp_path)
    found = load_moments(tmp_path)
    assert found is not None
    assert found.steps == 123
    assert found.tensors.keys() == GIVEN.tensors.keys()
    assert all(torch.equal(t.float(), found.tensors[name]) for name, t in GIVEN.tensors.items())


def test_damaged_files(tmp_path: Path) -> None:
    (tmp_path / FILE).parent.mkdir()
    (tmp_path / FILE).write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="expected a safetensors file"):
        load_moments(tmp_path)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"format_version": str(VERSION + 1), "steps": "1"}, f"this fidkit reads up to {VERSION}; upgrade"),
        ({"steps": "1"}, "format_version is None"),
        ({"format_version": str(VERSION), "steps": "many"}, "is of 'many' steps, expected a number"),
    ],
)
def test_what_files_say_of_themselves(said: dict[str, str], message: str, tmp_path: Path) -> None:
    (tmp_path / FILE).parent.mkdir()
    save_file({"a.weight": torch.rand(3, 2)}, tmp_path / FILE, metadata=said)
    with pytest.raises(CheckpointError, match=re.escape(message)):
        load_moments(tmp_path)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "reader").mkdir()
    (tmp_path / "reader/training").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="is a link to elsewhere"):
        save_moments(GIVEN, tmp_path / "reader")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_each_is_of_a_parameter_in_its_shape() -> None:
    shapes = {"a.weight": torch.Size([3, 2]), "b.weight": torch.Size([4]), "c.weight": torch.Size([1])}
    check_moments(GIVEN, shapes, "there")  # not every parameter has one
    with pytest.raises(CheckpointError, match=r"a.weight is \[3, 2\], expected \[2, 3\]"):
        check_moments(GIVEN, {**shapes, "a.weight": torch.Size([2, 3])}, "there")
    with pytest.raises(CheckpointError, match=r"unexpected b\.weight; delete it to go on without"):
        check_moments(GIVEN, {"a.weight": torch.Size([3, 2])}, "there")
