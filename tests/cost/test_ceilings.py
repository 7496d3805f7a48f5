"""Measuring this machine: quickly and badly here, the way it does it slowly and well."""

import pytest
import torch

from fidkit.bench import ceilings
from fidkit.bench.ceilings import Effort, best_seconds, measure
from fidkit.cost.hardware import HARDWARE, from_json

HASTY = Effort(seconds=0.0, shapes=((32, 64, 64),), megabytes=1)
CPU = torch.device("cpu")


def test_a_measured_machine_is_a_machine() -> None:
    found = measure("cpu", HASTY)
    assert {"float32", "bfloat16"} <= found.matrix_tflops.keys() <= {"float32", "bfloat16", "int8"}
    assert 0.01 < found.bandwidth_gbs < 10_000
    assert found.memory_gb > 0.5
    assert "measured with torch" in found.source
    assert found.efficiency == HARDWARE["cpu-2core"].efficiency
    assert from_json(found.to_json(), "here") == found


def test_the_best_shape_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "best_seconds", lambda *_: 1e-3)
    effort = Effort(shapes=((10, 20, 30), (100, 20, 30)))
    assert ceilings.matrix_tflops(CPU, effort)["float32"] == pytest.approx(2 * 100 * 20 * 30 / 1e-3 / 1e12)


def test_a_missing_kernel_is_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> torch.Tensor:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(torch, "_int_mm", refuse)
    monkeypatch.setattr(ceilings.native, "kernels", lambda: None)
    assert "int8" not in measure("cpu", HASTY).matrix_tflops


def test_8_bits_are_multiplied_by_8_as_readers_do(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = ceilings.native.kernels()
    if kernels is None:
        pytest.skip("no native kernels")
    seen = []
    product = type(kernels).product

    def watched(self, x, weight, activations):
        seen.append((tuple(x.shape), weight.rows, activations))
        return product(self, x, weight, activations)

    monkeypatch.setattr(type(kernels), "product", watched)
    shapes = ((32, 64, 48),)
    assert ceilings.matrix_tflops(CPU, Effort(seconds=0.0, dtypes=("int8",), shapes=shapes))["int8"] > 0
    assert set(seen) == {((32, 64), 48, 8)}


def test_every_way_through_memory_moves_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 100_000_000
    moved = [count for count, _ in ceilings._streams(CPU, size)]
    assert len(moved) == 4
    assert all(0.8 * size <= count <= size for count in moved)
    monkeypatch.setattr(ceilings, "best_seconds", lambda *_: 0.01)
    assert ceilings.bandwidth_gbs(CPU, Effort(megabytes=100)) == pytest.approx(10)


def test_the_shortest_run_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    took = iter([0.5, 3.0, 1.0, 2.0, 4.0])  # the first makes everything ready
    monkeypatch.setattr(ceilings, "_timed", lambda *_: next(took))
    assert best_seconds(lambda: None, CPU, 8.0) == 1.0


def test_what_is_far_too_slow_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    took = iter([33.0])
    monkeypatch.setattr(ceilings, "_timed", lambda *_: next(took))
    assert best_seconds(lambda: None, CPU, 8.0) == 33.0


@pytest.mark.gpu
def test_a_gpu_is_measured_too() -> None:
    found = measure("cuda")
    assert found.matrix_tflops["bfloat16"] > found.matrix_tflops["float32"]
    assert found.bandwidth_gbs > 100
