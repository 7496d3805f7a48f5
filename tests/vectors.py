"""The kernels, built for vectors of a certain width."""

import functools
import platform

import pytest
import torch

from fidkit.native import Kernels
from fidkit.native.build import library

NARROW = {"-march=x86-64": 4, "-march=x86-64-v3": 8}
"""Compilers' flags, and the numbers that a vector has then."""


def builds() -> list[str]:
    """Flags of all builds that tests use here; the first is for this CPU, and no other is as wide."""
    if platform.machine() != "x86_64":
        return [""]
    return ["", *(flags for flags, numbers in NARROW.items() if numbers != _own_numbers())]


def _own_numbers() -> int:
    return 8 if torch.backends.cpu.get_cpu_capability() == "AVX2" else 16


def kernels_with(flags: str) -> Kernels:
    """Skips the test on CPUs that have no vectors of this width."""
    if platform.machine() != "x86_64" or "AVX" not in torch.backends.cpu.get_cpu_capability():
        pytest.skip("no x86 CPU with AVX2")
    if flags not in builds():
        pytest.skip("as wide as the kernels for this CPU, which are tested")
    return _built(flags)


@functools.cache
def _built(flags: str) -> Kernels:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXXFLAGS", flags)
        kernels = Kernels(library())
    assert kernels.lanes == NARROW[flags]
    return kernels
