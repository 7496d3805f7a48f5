"""The kinds of CPU that kernels are compiled for ahead, and which of them a machine is.

A wheel may bring kernels for several kinds (`hatch_build.py`); a machine takes the first of them that it can
run.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("kernels.cpp")
SHIPPED = Path(__file__).with_name("compiled")
"""Where a wheel has its kernels."""

# Faster than -O3 to compile and no slower to run: the loops that matter are written out as vectors.
FLAGS = ("-std=c++17", "-O2", "-ffp-contract=fast", "-fno-math-errno")
LIBRARY = ("-fPIC", "-shared", "-pthread", "-g0")

_V2 = frozenset({"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"})
_V3 = _V2 | {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


@dataclass(frozen=True)
class Target:
    """A kind of CPU.

    Attributes:
        cpu: its name as Zig's and LLVM's, with what it has beyond.
        features: that a CPU has to have, as Linux names them.
    """

    cpu: str
    features: frozenset[str]

    @property
    def library(self) -> Path:
        """Its kernels in a wheel."""
        return SHIPPED / f"kernels-{self.cpu}.so"


TARGETS = {
    "x86_64": (
        Target("x86_64_v4+avx512vnni+avx512bf16", _V4 | {"avx512_vnni", "avx512_bf16"}),
        Target("x86_64_v4+avx512vnni", _V4 | {"avx512_vnni"}),
        Target("x86_64_v4", _V4),
        Target("x86_64_v3+avxvnni", _V3 | {"avx_vnni"}),
        Target("x86_64_v3", _V3),
        Target("x86_64_v2", _V2),
    ),
    "aarch64": (
        Target("generic+dotprod", frozenset({"asimd", "asimddp"})),
        Target("generic", frozenset({"asimd"})),
    ),
}
"""By machine; of each, the fastest first."""


def of_this_machine() -> list[Target]:
    """What this CPU can run, the fastest first; empty where nothing is compiled for."""
    has = features()
    return [target for target in TARGETS.get(platform.machine(), ()) if target.features <= has]


def shipped() -> Path | None:
    """The kernels of this package that suit this CPU best; None where it has none that do."""
    return next((target.library for target in of_this_machine() if target.library.is_file()), None)


def features() -> frozenset[str]:
    """What this CPU can do, as far as Linux lets programs do it; empty on other systems."""
    line = feature_line().decode("ascii", "replace")
    return frozenset(line.partition(":")[2].split())


def feature_line() -> bytes:
    """What /proc/cpuinfo says that the first CPU can do."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return b""
    return next((line for line in lines if line.startswith((b"flags", b"Features"))), b"")
