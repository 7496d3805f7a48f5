"""The rule of devices: the same names everywhere, and one clear line for what isn't there."""

import sys
from pathlib import Path

import pytest
import torch

from fidkit import devices
from fidkit.cli.app import run
from fidkit.devices import choose_device
from fidkit.errors import UsageError


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Pretends that PyTorch sees so many."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("count", "name", "device"),
    [(0, "auto", "cpu"), (0, "cpu", "cpu"), (1, "auto", "cuda"), (1, "cpu", "cpu"), (2, "cuda", "cuda"),
     (2, "cuda:1", "cuda:1"), (2, torch.device("cuda:0"), "cuda:0")],
)  # fmt: skip
def test_a_name_is_a_device(monkeypatch: pytest.MonkeyPatch, count: int, name: str, device: str) -> None:
    gpus(monkeypatch, count)
    assert choose_device(name) == torch.device(device)


@pytest.mark.parametrize(
    ("count", "name", "said"),
    [
        (0, "gpu", "'gpu'; expected auto, cpu, cuda or cuda:1"),
        (1, "CUDA", "'CUDA'; expected"),
        (1, "cuda:-1", "expected auto"),
        (1, "", "expected auto"),
        (0, "cuda", "'cuda', but PyTorch sees no CUDA device here; give cpu or auto"),
        (0, "cuda:1", "sees no CUDA device"),
        (2, "cuda:2", "'cuda:2', but PyTorch sees only cuda:0, cuda:1; give one"),
    ],
)
def test_what_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, count: int, name: str, said: str) -> None:
    gpus(monkeypatch, count)
    with pytest.raises(UsageError) as error:
        choose_device(name)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "command",
    ["ask who?", "evaluate --data {file}", "bench tiny-fid", "memory build {folder} --reader pocket",
     "train {recipe}"],
)  # fmt: skip
def test_every_verb_has_the_rule(command: str, tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "qa.jsonl").write_text('{"question": "who?", "answers": ["me"]}\n')
    recipe = Path(__file__).parents[1] / "recipes" / "pocket.toml"
    places = {"file": tmp_path / "qa.jsonl", "folder": tmp_path, "recipe": recipe}
    given = [part.format(**places) for part in command.split()]
    assert run([*given, "--device", "tpu"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: the device is 'tpu'; expected auto")


@pytest.mark.parametrize(("installed", "driver"), [(True, True), (True, False), (False, True)])
def test_pytorch_is_asked_only_where_it_and_a_driver_are(
    installed: bool, driver: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "driver").touch()
    gpus(monkeypatch, 1)
    monkeypatch.setattr(devices, "_DRIVERS", (tmp_path / ("driver" if driver else "none"),))
    monkeypatch.setattr(devices, "has_torch", lambda: installed)
    assert not devices.on_cpu("auto")  # it is imported, and sees a GPU
    modules = {name: module for name, module in sys.modules.items() if name != "torch"}
    monkeypatch.setattr(devices.sys, "modules", modules)
    assert devices.on_cpu("auto") is not (installed and driver)
    assert devices.on_cpu("cpu")
    assert not devices.on_cpu("cuda")
