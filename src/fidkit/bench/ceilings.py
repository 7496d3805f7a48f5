"""What this machine can do at most: the rate of matrix products and the bandwidth of its memory.

On a CPU the products are those of our kernels, and PyTorch's in bfloat16: what readers are answered with.
Ceilings are best times, not typical ones: a disturbed run is slower, none is faster than the machine. What
kernels get of them (`Hardware.efficiency`) isn't measured here but taken over from the same class of machine.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fidkit import native
from fidkit.cost.hardware import HARDWARE, Hardware
from fidkit.engine.cpu.products import Products, packs

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Rows, inputs, outputs: a base encoder's layers, and larger ones. A CPU's are no larger than its caches: a
# product that has to wait for new memory from the system is not the machine's best.
CPU_SHAPES = ((2048, 768, 2048), (2048, 768, 768), (2048, 1024, 2816), (2560, 2048, 5120))
CUDA_SHAPES = ((8192, 8192, 8192), (16384, 4096, 4096), (10240, 2048, 5120))
STREAM_WIDTHS = (2048, 5120)
REPEATS = 3
"""Least runs of each measurement, after one to warm up."""
HOPELESS = 4
"""A first run that takes so many times as long as measuring may is the only one."""


@dataclass(frozen=True)
class Effort:
    """How thoroughly is measured.

    Attributes:
        seconds: spent on each shape and access pattern.
        dtypes: of matrix products; None for all.
        shapes: of matrix products, as rows, inputs and outputs; None for those of the device.
        megabytes: streamed to measure bandwidth; several times the caches.
    """

    seconds: float = 0.5
    dtypes: tuple[str, ...] | None = None
    shapes: tuple[tuple[int, int, int], ...] | None = None
    megabytes: int = 512


def measure(device: str | None = None, effort: Effort | None = None) -> Hardware:
    """Measure this machine, with all threads of PyTorch.

    Takes some seconds, and wants the machine to itself.

    Args:
        device: `cpu` or `cuda`; by default the GPU where there is one.
        effort: how thoroughly.
    """
    on = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    chosen, like = effort or Effort(), HARDWARE["h200" if on.type == "cuda" else "cpu-2core"]
    with torch.inference_mode():
        rates = matrix_tflops(on, chosen)
        bandwidth = bandwidth_gbs(on, chosen)
    return Hardware(
        name="local",
        matrix_tflops=rates,
        bandwidth_gbs=bandwidth,
        memory_gb=_memory_bytes(on) / 1e9,
        store_gbs=like.store_gbs,
        source=f"measured with torch {torch.__version__} on {describe(on)}; "
        f"efficiencies and store taken over from {like.name}",
        efficiency=like.efficiency,
        elementwise=like.elementwise,
        widening=like.widening,
        launch_us=like.launch_us,
        step_us=like.step_us,
        packs=packs(on, torch.float32),
    )


def matrix_tflops(device: torch.device, effort: Effort) -> dict[str, float]:
    """Best rate of a matrix product by dtype, in 10¹² operations a second.

    Of int8, 8 bits by 8: our kernels round activations as part of it; without them, where PyTorch has it.
    """
    shapes = effort.shapes or (CUDA_SHAPES if device.type == "cuda" else CPU_SHAPES)
    rates = {}
    for name in effort.dtypes or (*DTYPES, "int8"):
        found = [_rate(name, shape, device, effort.seconds) for shape in shapes]
        measured = [rate for rate in found if rate is not None]
        if measured:
            rates[name] = max(measured)
    return rates


def bandwidth_gbs(device: torch.device, effort: Effort) -> float:
    """Best bandwidth over several ways to walk through memory, in 10⁹ bytes a second."""
    return max(
        moved / best_seconds(run, device, effort.seconds) / 1e9
        for moved, run in _streams(device, effort.megabytes * 1_000_000)
    )


def best_seconds(run: Callable[[], object], device: torch.device, seconds: float) -> float:
    """The shortest of repeated runs, for about `seconds` altogether.

    What is far too slow for that runs once: a product in a type that the device doesn't multiply.
    """
    first = _timed(run, device)  # makes everything ready
    if first > HOPELESS * seconds:
        return first
    best, spent, repeats = float("inf"), 0.0, 0
    while spent < seconds or repeats < REPEATS:
        took = _timed(run, device)
        best, spent, repeats = min(best, took), spent + took, repeats + 1
    return best


def describe(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _rate(name: str, shape: tuple[int, int, int], device: torch.device, seconds: float) -> float | None:
    rows, inputs, outputs = shape
    try:
        took = best_seconds(_product(name, shape, device), device, seconds)
    except (RuntimeError, NotImplementedError):  # this build of PyTorch has no such kernel here
        return None
    return 2 * rows * inputs * outputs / took / 1e12


def _product(name: str, shape: tuple[int, int, int], device: torch.device) -> Callable[[], object]:
    rows, inputs, outputs = shape
    kernels = native.kernels() if device.type == "cpu" else None
    if name == "int8" and kernels is None:
        sizes = (rows, inputs), (inputs, outputs)
        integers, weight = (torch.ones(size, dtype=torch.int8, device=device) for size in sizes)
        return lambda: torch._int_mm(integers, weight)
    dtype = DTYPES.get(name, torch.float32)
    x = torch.ones(rows, inputs, dtype=dtype, device=device)
    linear = nn.Linear(inputs, outputs, bias=False, dtype=dtype, device=device)
    if kernels is None:
        return lambda: linear(x)
    products = Products(kernels, rounding="always" if name == "int8" else "never")
    return lambda: products(x, linear)


def _streams(device: torch.device, size: int) -> Iterator[tuple[int, Callable[[], object]]]:
    """Bytes moved and what moves them: reductions, products of matrix and vector, and on a GPU a copy.

    Decoding reads: a CPU's rate of reading and writing at once is another one, often higher.
    """
    x = torch.ones(size // 4, device=device)
    yield x.nbytes, x.sum
    half = len(x) // 2
    a, b = x[:half], x[half : 2 * half]
    yield a.nbytes + b.nbytes, lambda: torch.dot(a, b)
    if device.type == "cuda":
        yield a.nbytes + b.nbytes, lambda: a.copy_(b)
    inputs, outputs = STREAM_WIDTHS
    for dtype in DTYPES.values():
        # One matrix after the other, as in a decoding step: none is in a cache when its turn comes.
        flat = x.view(dtype)
        count = max(1, len(flat) // (inputs * outputs))
        if count * inputs * outputs > len(flat):
            continue
        matrices = flat[: count * inputs * outputs].view(count, outputs, inputs)
        vector = torch.ones(1, inputs, dtype=dtype, device=device)
        yield matrices.nbytes, partial(_products, vector, matrices)


def _products(vector: Tensor, matrices: Tensor) -> None:
    for matrix in matrices:
        F.linear(vector, matrix)


def _timed(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
