"""The kernels under the compiler's sanitizers: random calls in C++ (fuzz.cpp), compared with naive code.

The address sanitizer sees each read and write outside of a buffer, and the one for undefined behaviour
overflows, bad shifts and casts. What is read before it was written shows as well: it is no number, and so is
the result.

The thread sanitizer sees the threads of a call as it sees calls at once; the threads by themselves are tested
in test_threads.py. It doesn't cover the Python that calls kernels; there, a runner is locked
(`fidkit.engine.answering`).
"""

import platform
import shlex
from pathlib import Path

import pytest
import torch

from fidkit.native import build
from programs import RACES, compiler, program, run
from vectors import builds

HERE = Path(__file__).parent
KERNELS = build.SOURCE.parent
FLAGS = [flag for flag in build.FLAGS if flag != "-O2"] + ["-g1", "-pthread"]
ADDRESSES = ["-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"]
# What lies behind the size of a vector of the standard library counts as outside, too.
ADDRESSES += ["-fno-omit-frame-pointer", "-D_GLIBCXX_ASSERTIONS", "-D_GLIBCXX_SANITIZE_VECTOR"]
CALLS = 10_000
# Linux uses the ids of threads again after 32,768 of them. The search for leaks then takes a thread that runs
# for one that has ended, and what it holds for lost; so no process gets that far.
CALLS_A_PROCESS = 2_000

# Vectors of all widths that this CPU has.
EVERY_BUILD = pytest.mark.parametrize("flags", builds(), ids=lambda flags: flags or "native")


def options(flags: str) -> list[str]:
    """Of a build of the kernels; skips the test on CPUs that can't run it."""
    if "-march" in flags and "AVX" not in torch.backends.cpu.get_cpu_capability():
        pytest.skip("no x86 CPU with AVX2")
    return [*FLAGS, *shlex.split(flags), f"-I{KERNELS}"]


def fuzz(config: pytest.Config, tmp_path: Path, flags: str, calls: int) -> str:
    """Build with the sanitizers for addresses and undefined behaviour, and run."""
    cxx = compiler(ADDRESSES, tmp_path)
    made = program(config, cxx, [*options(flags), *ADDRESSES], HERE / "fuzz.cpp")
    portions = range(0, calls, CALLS_A_PROCESS)
    return "".join(run(made, str(1 + done), str(min(CALLS_A_PROCESS, calls - done))) for done in portions)


def test_the_first_build_is_for_this_cpu() -> None:
    assert "-march=native" in options(builds()[0])


def test_some_calls(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """Of other vectors than this CPU's, and hardly optimised: most of the time is the compiler's."""
    print(fuzz(pytestconfig, tmp_path, f"{builds()[-1]} -Og", 100))


@pytest.mark.slow
@EVERY_BUILD
def test_many_calls(pytestconfig: pytest.Config, tmp_path: Path, flags: str) -> None:
    print(fuzz(pytestconfig, tmp_path, f"{flags} -O1", CALLS))


@pytest.mark.slow
@EVERY_BUILD
def test_eight_callers_of_one_reader(pytestconfig: pytest.Config, tmp_path: Path, flags: str) -> None:
    cxx = compiler(RACES, tmp_path)
    made = program(pytestconfig, cxx, [*options(flags), "-O1", *RACES], HERE / "fuzz.cpp")
    print(run(made, "1", str(CALLS), "8"))


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="flags of x86 CPUs")
@pytest.mark.parametrize("march", ["x86-64", "x86-64-v3", "x86-64-v4", "sapphirerapids"])
def test_kernels_compile_without_a_warning(tmp_path: Path, march: str) -> None:
    """Also for CPUs that this one isn't: the last two have vectors of 512 bits, and the last one bfloat16."""
    cxx = compiler(["-O2"], tmp_path)
    warnings = ["-Wall", "-Wextra", "-Werror"]
    run(*cxx, *build.FLAGS, f"-march={march}", *warnings, "-c", build.SOURCE, "-o", tmp_path / "kernels.o")
