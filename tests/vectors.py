"""The kernels, built for vectors of a certain width."""

import functools
import platform
import shlex

import pytest
import torch

from fidkit.native import Kernels
from fidkit.native.build import library
from fidkit.native.targets import TARGETS, Target, of_this_machine


def flags_for(target: Target) -> str:
    """Of g++ and clang++ for x86 CPUs; Zig has other names for the same."""
    march, *more = target.cpu.replace("_", "-").split("+")
    return shlex.join([f"-march={march}", *(f"-m{feature}" for feature in more)])


NARROW = {"-march=x86-64-v2": 4, "-march=x86-64-v3": 8}
"""Compilers' flags, and the numbers that a vector has then."""

OTHERS = [flags for target in TARGETS["x86_64"] if (flags := flags_for(target)) not in NARROW]
"""Of the other kinds of CPU that wheels have kernels for."""

EVERY_KIND = ["native", *NARROW, *(pytest.param(flags, marks=pytest.mark.slow) for flags in OTHERS)]
"""For tests of each kernel; those that take no other vectors are slow, as their compiler is."""


def builds() -> list[str]:
    """Flags of all builds that tests use here; the first is for this CPU, and no other is as wide."""
    if platform.machine() != "x86_64":
        return [""]
    return ["", *(flags for flags, numbers in NARROW.items() if numbers != _own_numbers())]


def _own_numbers() -> int:
    return 8 if torch.backends.cpu.get_cpu_capability() == "AVX2" else 16


def kernels_with(flags: str) -> Kernels:
    """Skips the test on CPUs that can't run them."""
    if flags in OTHERS:
        if flags not in map(flags_for, of_this_machine()):
            pytest.skip("no such CPU")
        return _built(flags)
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
    assert kernels.lanes == NARROW.get(flags, 16 if "v4" in flags else 8)
    return kernels
