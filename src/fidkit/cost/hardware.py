"""Machines as data: peaks, and how much of them kernels get.

A ceiling uses the peaks alone. A prediction also uses `efficiency`, `elementwise` and the overheads,
which are measured on kernels, not on machines; without them it equals the ceiling.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fidkit.cost.parts import KINDS
from fidkit.cost.workload import OLD_DTYPES
from fidkit.errors import FidkitError, UsageError
from fidkit.home import home

FORMAT_VERSION = 1
LOCAL = "local"
RESERVED_SHARE = 0.05
"""Of memory, for the allocator and the kernels themselves."""


@dataclass(frozen=True)
class Efficiency:
    """Which share of each peak a kind of work gets, 0 to 1."""

    compute: float = 1.0
    traffic: float = 1.0


@dataclass(frozen=True)
class Hardware:
    """One machine, or one accelerator of it.

    Attributes:
        name: what it is.
        matrix_tflops: peak rate of matrix products by dtype, in 10¹² operations a second.
        bandwidth_gbs: peak memory bandwidth, in 10⁹ bytes a second.
        memory_gb: in 10⁹ bytes.
        store_gbs: rate at which stored memory rows arrive, in 10⁹ bytes a second.
        source: where the numbers come from.
        efficiency: by kind of work (`fidkit.cost.parts.KINDS`).
        elementwise: time of norms, residuals and activations, in multiples of moving their operands once
            at peak bandwidth; 0 when they are fused into other kernels.
        widening: time to make a number of 8 bits one of more, in operations of the product that it goes into.
        launch_us: overhead of a kernel, in microseconds.
        step_us: overhead of a decoding step.
        packs: matrices that many vectors are multiplied with are kept a second time, in the layout of the
            matrix library (x86 CPUs).

    Raises:
        UsageError: a peak that isn't positive, or an unknown kind of work.
    """

    name: str
    matrix_tflops: Mapping[str, float]
    bandwidth_gbs: float
    memory_gb: float
    store_gbs: float
    source: str
    efficiency: Mapping[str, Efficiency] = field(default_factory=dict)
    elementwise: float = 0.0
    widening: float = 0.0
    launch_us: float = 0.0
    step_us: float = 0.0
    packs: bool = False

    def __post_init__(self) -> None:
        peaks = {
            "bandwidth_gbs": self.bandwidth_gbs,
            "memory_gb": self.memory_gb,
            "store_gbs": self.store_gbs,
        }
        peaks |= {f"matrix_tflops of {dtype}": rate for dtype, rate in self.matrix_tflops.items()}
        peaks |= {f"{way} efficiency of {kind}": rate for kind, way, rate in self._shares()}
        for what, value in peaks.items():
            if not value > 0:
                raise UsageError(f"hardware {self.name}: {what} is {value}; give a positive number")
        unknown = sorted(self.efficiency.keys() - set(KINDS))
        if unknown:
            raise UsageError(
                f"hardware {self.name}: no kind of work {unknown[0]!r}; known: {', '.join(KINDS)}"
            )

    def rate(self, dtype: str) -> float:
        """Peak operations a second.

        Raises:
            UsageError: not known for this dtype.
        """
        if dtype not in self.matrix_tflops:
            known = ", ".join(self.matrix_tflops)
            raise UsageError(f"no {dtype} rate is known of hardware {self.name}; choose one of {known}")
        return self.matrix_tflops[dtype] * 1e12

    @property
    def bandwidth(self) -> float:
        """Peak bytes a second."""
        return self.bandwidth_gbs * 1e9

    @property
    def usable_bytes(self) -> int:
        """RAM that batches may fill."""
        return int(self.memory_gb * 1e9 * (1 - RESERVED_SHARE))

    def of_kind(self, kind: str) -> Efficiency:
        return self.efficiency.get(kind, Efficiency())

    def to_json(self) -> dict[str, Any]:
        return {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}

    def _shares(self) -> list[tuple[str, str, float]]:
        return [
            (kind, way, getattr(of_kind, way))
            for kind, of_kind in self.efficiency.items()
            for way in ("compute", "traffic")
        ]


def from_json(record: Any, where: str) -> Hardware:
    """The machine that `Hardware.to_json` described.

    Raises:
        FidkitError: not such a record; the message starts with `where`.
    """
    try:
        fields = dict(record)
        version = fields.pop("format_version")
        if version != FORMAT_VERSION:
            raise ValueError(f"format_version {version!r}, expected {FORMAT_VERSION}")
        shares = {kind: Efficiency(**share) for kind, share in fields.pop("efficiency").items()}
        rates = rates_by_dtype(fields.pop("matrix_tflops"))
        return Hardware(**fields, matrix_tflops=rates, efficiency=shares)
    except (AttributeError, KeyError, TypeError, ValueError, UsageError) as error:
        raise FidkitError(f"{where}: expected a hardware record, but {error}; measure it again") from error


def rates_by_dtype(record: Mapping[str, float]) -> dict[str, float]:
    """`Hardware.matrix_tflops` of a record; those of the first versions have older names of dtypes."""
    return {OLD_DTYPES.get(dtype, dtype): rate for dtype, rate in record.items()}


def local_path() -> Path:
    """Where this machine's measurements are kept: `$FIDKIT_HOME/hardware.json`."""
    return home() / "hardware.json"


def load_local() -> Hardware:
    """This machine as it was measured.

    Raises:
        FidkitError: not measured yet, or the file is damaged; the message has the command that measures.
    """
    path = local_path()
    measure = "`fidkit plan fid-base --hardware local --remeasure`"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FidkitError(f"{path}: this machine was not measured yet; run {measure}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise FidkitError(f"{path}: expected a hardware record, but {error}; run {measure}") from error
    return from_json(record, str(path))


def save_local(measured: Hardware) -> Path:
    """Keep the measurements of this machine; returns where."""
    path = local_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(measured.to_json(), indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    return path


def find_hardware(name: str) -> Hardware:
    """The machine called `name`; `local` is this one, as measured.

    Raises:
        UsageError: unknown; lists the known ones.
        FidkitError: `local` was not measured yet.
    """
    if name == LOCAL:
        return load_local()
    if name not in HARDWARE:
        raise UsageError(f"no hardware {name!r}; choose one of {', '.join([*HARDWARE, LOCAL])}")
    return HARDWARE[name]


def _everywhere(compute: float, traffic: float) -> dict[str, Efficiency]:
    return {kind: Efficiency(compute, traffic) for kind in KINDS}


_REACHED = "efficiencies: 790 TFLOP/s and 4.3 TB/s on an H200, what large products and copies reach"
_HOPPER = {"float32": 67.0, "bfloat16": 989.5, "int8": 1979.0}

HARDWARE = {
    machine.name: machine
    for machine in (
        Hardware(
            name="h200",
            matrix_tflops=_HOPPER,
            bandwidth_gbs=4800,
            memory_gb=141,
            store_gbs=64,
            source="NVIDIA H200 SXM datasheet, dense rates, float32 without TF32; store: PCIe 5.0 x16. "
            f"{_REACHED}; attention and launches not calibrated",
            efficiency=_everywhere(0.80, 0.90),
        ),
        Hardware(
            name="h100",
            matrix_tflops=_HOPPER,
            bandwidth_gbs=3350,
            memory_gb=80,
            store_gbs=64,
            source="NVIDIA H100 SXM datasheet, dense rates, float32 without TF32; store: PCIe 5.0 x16. "
            f"{_REACHED}; not measured on an H100",
            efficiency=_everywhere(0.80, 0.90),
        ),
        Hardware(
            name="a100",
            matrix_tflops={"float32": 19.5, "bfloat16": 312, "int8": 624},
            bandwidth_gbs=2039,
            memory_gb=80,
            store_gbs=32,
            source="NVIDIA A100 80 GB SXM datasheet, dense rates, float32 without TF32; store: PCIe 4.0 x16. "
            f"{_REACHED}; not measured on an A100",
            efficiency=_everywhere(0.80, 0.90),
        ),
        Hardware(
            name="tpuv4",
            matrix_tflops={"bfloat16": 275, "int8": 275},
            bandwidth_gbs=1200,
            memory_gb=34.4,
            store_gbs=16,
            source="Google Cloud TPU v4 documentation: 275 TFLOP/s, 32 GiB, 1.2 TB/s; store: PCIe 3.0 x16. "
            "Efficiencies fitted to the times of FiDO tables 3 and 4 (taken as 64 questions a batch, 24 for "
            "FiD), so they describe that code and no other",
            efficiency={
                "linear": Efficiency(compute=0.50, traffic=0.50),
                "encoder_attention": Efficiency(compute=0.50, traffic=0.50),
                "decoder_weights": Efficiency(compute=0.50, traffic=0.58),
                "decoder_attention": Efficiency(compute=0.50, traffic=0.16),
                "shared_attention": Efficiency(compute=0.50, traffic=0.50),
            },
        ),
        Hardware(
            name="cpu-2core",
            matrix_tflops={"float32": 0.50, "bfloat16": 1.0, "int8": 2.0},
            bandwidth_gbs=50,
            memory_gb=16,
            store_gbs=14,
            source="measured with torch 2.13 on 2 cores of an AMD EPYC of the Zen 5 generation (avx512_bf16, "
            "no AMX); store: rows in the page cache; memory: assumed. Efficiencies: of the native kernels "
            "there, which docs/reproduce.md holds against measurements",
            efficiency={
                # Products of a base encoder's layers: 900 of 970 GFLOP/s.
                "linear": Efficiency(compute=0.93, traffic=0.80),
                # 430 GFLOP/s, with the relative bias.
                "encoder_attention": Efficiency(compute=0.45, traffic=0.80),
                # Streams nearly as fast as a plain sum; products of many decoding rows at 260 GFLOP/s.
                "decoder_weights": Efficiency(compute=0.27, traffic=0.88),
                # 0.85 of the bandwidth there, 0.67 on a Zen 4; one thread gets 17 of 220 GFLOP/s there.
                "decoder_attention": Efficiency(compute=0.075, traffic=0.75),
                "shared_attention": Efficiency(compute=0.30, traffic=0.85),
            },
            # Norms, residuals and activations, from caches rather than from memory.
            elementwise=1.2,
            # One row meets 19 billion weights of 8 bits a second on one thread of a Zen 4.
            widening=1.2,
            step_us=100,
            packs=True,
        ),
    )
}
