"""Machines as data: the table, the record of this machine, and what is wrong with a record."""

import dataclasses
import json

import pytest

from fidkit.cost.hardware import (
    HARDWARE,
    Efficiency,
    Hardware,
    find_hardware,
    from_json,
    load_local,
    local_path,
    save_local,
)
from fidkit.errors import FidkitError, UsageError

MACHINE = Hardware(
    "local",
    {"float32": 0.1, "bfloat16": 0.5},
    40,
    16,
    10,
    "measured",
    efficiency={"linear": Efficiency(0.9, 0.8)},
    elementwise=3.0,
    launch_us=2.0,
    step_us=50.0,
)


def test_the_table_has_every_machine_with_its_source() -> None:
    assert list(HARDWARE) == ["h200", "h100", "a100", "tpuv4", "cpu-2core"]
    for name, machine in HARDWARE.items():
        assert find_hardware(name) is machine
        assert len(machine.source) > 40
        assert machine.rate("bfloat16") > 0
        assert machine.usable_bytes < machine.memory_gb * 1e9


@pytest.mark.parametrize("machine", [MACHINE, *HARDWARE.values()], ids=lambda m: m.name)
def test_json_and_back(machine: Hardware) -> None:
    assert from_json(json.loads(json.dumps(machine.to_json())), "here") == machine


def test_this_machine_is_kept_at_home(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIDKIT_HOME", str(tmp_path / "new"))
    assert save_local(MACHINE) == local_path() == tmp_path / "new" / "hardware.json"
    assert load_local() == find_hardware("local") == MACHINE
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["hardware.json"]


def test_a_record_of_the_first_versions_is_read() -> None:
    """Which called bfloat16 otherwise; nobody has to measure again for a name."""
    record = MACHINE.to_json() | {"matrix_tflops": {"float32": 0.1, "bf16": 0.5}}
    local_path().parent.mkdir(parents=True, exist_ok=True)
    local_path().write_text(json.dumps(record), encoding="utf-8")
    assert load_local() == MACHINE


def test_an_unmeasured_machine_comes_with_the_command_that_measures() -> None:
    with pytest.raises(FidkitError, match=r"not measured yet; run `fidkit plan .* --remeasure`"):
        find_hardware("local")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format_version": 2}',
        100_000 * "[",
        json.dumps(MACHINE.to_json() | {"colour": "red"}),
        json.dumps(MACHINE.to_json() | {"bandwidth_gbs": 0}),
        json.dumps(MACHINE.to_json() | {"bandwidth_gbs": "fast"}),
        json.dumps(MACHINE.to_json() | {"matrix_tflops": [1.0]}),
        json.dumps({key: value for key, value in MACHINE.to_json().items() if key != "matrix_tflops"}),
        json.dumps(MACHINE.to_json() | {"efficiency": {"flying": {}}}),
    ],
    ids=range(11),
)
def test_a_damaged_record_is_said_in_one_line(text: str) -> None:
    local_path().parent.mkdir(parents=True, exist_ok=True)
    local_path().write_text(text, encoding="utf-8")
    with pytest.raises(FidkitError, match="expected a hardware record, but") as caught:
        load_local()
    assert str(local_path()) in str(caught.value)


def test_unknown_hardware_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"no hardware 'v100'; choose one of h200, h100, .*, local"):
        find_hardware("v100")


def test_shares_and_peaks_must_be_positive() -> None:
    for changes in (
        {"matrix_tflops": {"bfloat16": 0.0}},
        {"memory_gb": -1},
        {"efficiency": {"linear": Efficiency(compute=0.0)}},
    ):
        with pytest.raises(UsageError, match="give a positive number"):
            dataclasses.replace(MACHINE, **changes)
