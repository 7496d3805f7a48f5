"""Matrices rounded to 8 bits in a file: how far off, how large, and what is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fidkit.calibration import Calibration
from fidkit.checkpoint import WEIGHTS, rounded, to_int8
from fidkit.checkpoint.rounding import SCALE, restored
from fidkit.errors import CheckpointError
from fidkit.reader import Reader


def test_a_row_is_off_by_half_a_step_at_most() -> None:
    weight = torch.randn(50, 30) * torch.logspace(-6, 3, 50)[:, None]
    whole, scale = to_int8(weight)
    assert whole.dtype == torch.int8
    assert bool(((weight - whole.float() * scale[:, None]).abs() <= 0.5001 * scale[:, None]).all())
    assert whole.abs().amax(1).tolist() == [127] * 50


def test_a_row_of_zeros_stays_one() -> None:
    whole, scale = to_int8(torch.zeros(2, 3))
    assert (whole.float() * scale[:, None]).tolist() == torch.zeros(2, 3).tolist()


def test_matrices_are_rounded_and_all_else_is_kept() -> None:
    tensors = {"a": torch.randn(80, 60), "small": torch.randn(3, 4), "norm.scale": torch.randn(80)}
    stored = rounded(tensors)
    assert {name: t.dtype for name, t in stored.items()} == {
        "a": torch.int8, "a" + SCALE: torch.float32, "small": torch.float32, "norm.scale": torch.float32,
    }  # fmt: skip
    again = restored(stored, "here")
    assert again.keys() == tensors.keys()
    assert torch.equal(again["small"], tensors["small"])
    assert torch.equal(again["norm.scale"], tensors["norm.scale"])
    assert (again["a"] - tensors["a"]).abs().max() <= tensors["a"].abs().max() / 254 * 1.001


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_a_reader_is_stored_in_a_quarter_and_read_as_floats(tmp_path: Path, kind: str) -> None:
    reader = Reader.from_preset("tiny-fid")
    reader.calibration = Calibration(signals={}, intercept=0.0, threshold=0.5)
    reader.save_pretrained(tmp_path / "whole")
    reader.save_pretrained(tmp_path / "rounded", dtype="int8")
    sizes = [(tmp_path / name / WEIGHTS).stat().st_size for name in ("whole", "rounded")]
    assert sizes[1] < 0.34 * sizes[0]
    again = Reader.from_pretrained(tmp_path / "rounded", kind)
    assert again.calibration == reader.calibration
    for (name, was), now in zip(reader.named_parameters(), again.parameters(), strict=True):
        assert str(now.dtype) == f"torch.{kind}"
        assert (was - now.float()).abs().max() <= was.abs().max() / (254 if kind == "float32" else 100), name


def test_rounding_what_was_rounded_changes_nothing(tmp_path: Path) -> None:
    Reader.from_preset("tiny-fid").save_pretrained(tmp_path / "one", dtype="int8")
    Reader.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two", dtype="int8")
    one, two = (load_file(tmp_path / name / WEIGHTS) for name in ("one", "two"))
    assert all(torch.allclose(one[name].float(), two[name].float(), atol=1e-6) for name in one)


@pytest.mark.parametrize(
    "change",
    [
        lambda t, name: t.update({name + SCALE: t[name + SCALE][1:].clone()}),
        lambda t, name: t.update({name + SCALE: torch.ones(len(t[name]), dtype=torch.int32)}),
        lambda t, name: t.update({name: t[name][None].clone()}),
    ],
    ids=["too few scales", "scales of integers", "no matrix"],
)
def test_what_does_not_belong_together_is_refused(tmp_path: Path, change) -> None:
    Reader.from_preset("tiny-fid").save_pretrained(tmp_path, dtype="int8")
    tensors = load_file(tmp_path / WEIGHTS)
    change(tensors, "embedding.weight")
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"embedding\.weight is int8; expected a matrix, with floats"):
        Reader.from_pretrained(tmp_path)


def test_scales_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    Reader.from_preset("tiny-fid").save_pretrained(tmp_path, dtype="int8")
    tensors = load_file(tmp_path / WEIGHTS)
    tensors["embedding.weight" + SCALE][3] = float("nan")
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"embedding\.weight"):
        Reader.from_pretrained(tmp_path)
