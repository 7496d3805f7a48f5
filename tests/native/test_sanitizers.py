"""The kernels under the compiler's sanitizers: random calls in C++ (fuzz.cpp), compared with naive code.

The address sanitizer sees each read and write outside of a buffer, and the one for undefined behaviour
overflows, bad shifts and casts. They run with the kernels' own threads, which they suit. What is read before
it was written shows as well: it is no number, and so is the result.

The thread sanitizer doesn't suit GCC's OpenMP, whose barriers it can't see. Its program is linked with a few
lines in OpenMP's place (threads.cpp), which order what OpenMP promises to order. So it covers the kernels,
between the threads of a call as between calls at once. It covers neither GCC's library nor the Python that
calls kernels; there, a runner is locked (`fidkit.engine.answering`).
"""

import platform
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from fidkit.native import build
from vectors import builds

HERE = Path(__file__).parent
KERNELS = build.SOURCE.parent
FLAGS = [flag for flag in build.FLAGS if flag not in ("-O2", "-fPIC", "-shared")] + ["-g1"]
ADDRESSES = ["-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"]
# What lies behind the size of a vector of the standard library counts as outside, too.
ADDRESSES += ["-fno-omit-frame-pointer", "-D_GLIBCXX_ASSERTIONS", "-D_GLIBCXX_SANITIZE_VECTOR"]
RACES = ["-fsanitize=thread"]
CALLS = 10_000
# Linux uses the ids of threads again after 32,768 of them. The search for leaks then takes a thread that runs
# for one that has ended, and what it holds for lost; so no process gets that far.
CALLS_A_PROCESS = 2_000
LONGEST_S = 1200

# Vectors of all widths that this CPU has.
EVERY_BUILD = pytest.mark.parametrize("flags", builds(), ids=lambda flags: flags or "native")


def compiler(sanitizer: Sequence[str], tmp_path: Path) -> list[str]:
    """Skips the test where there is no compiler, or a program with this sanitizer doesn't come to its end."""
    try:
        found = build._compiler()
    except build.BuildError as error:
        pytest.skip(str(error))
    source, program = tmp_path / "nothing.cpp", tmp_path / "nothing"
    source.write_text("int main() { return 0; }\n")
    for command in ([*found, *sanitizer, str(source), "-o", str(program)], [str(program)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
            pytest.skip(f"no {sanitizer[0]}: {said[0]}")
    return found


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=LONGEST_S, check=False
    )
    said = f"{shlex.join(map(str, command))} ended with {done.returncode}\n{done.stdout}{done.stderr[:6000]}"
    assert done.returncode == 0, said
    return done.stdout


def options(flags: str) -> list[str]:
    """Of a build of the kernels; skips the test on CPUs that can't run it."""
    if "-march" in flags and "AVX" not in torch.backends.cpu.get_cpu_capability():
        pytest.skip("no x86 CPU with AVX2")
    return [*FLAGS, *shlex.split(flags), f"-I{KERNELS}"]


def fuzz(tmp_path: Path, flags: str, calls: int) -> str:
    """Build with the sanitizers for addresses and undefined behaviour, and run."""
    cxx, program = compiler(ADDRESSES, tmp_path), tmp_path / "fuzz"
    run(*cxx, *options(flags), *ADDRESSES, "-fopenmp", HERE / "fuzz.cpp", "-o", program)
    portions = range(0, calls, CALLS_A_PROCESS)
    return "".join(run(program, str(1 + done), str(min(CALLS_A_PROCESS, calls - done))) for done in portions)


def test_some_calls(tmp_path: Path) -> None:
    """Of the narrowest vectors, and hardly optimised: most of the time is the compiler's."""
    print(fuzz(tmp_path, f"{builds()[-1]} -Og", 100))


@pytest.mark.slow
@EVERY_BUILD
def test_many_calls(tmp_path: Path, flags: str) -> None:
    print(fuzz(tmp_path, f"{flags} -O1", CALLS))


@pytest.mark.slow
@EVERY_BUILD
def test_eight_callers_of_one_reader(tmp_path: Path, flags: str) -> None:
    cxx, program = compiler(RACES, tmp_path), tmp_path / "fuzz"
    if "clang" in run(*cxx, "--version"):
        pytest.skip("threads.cpp stands in for GCC's OpenMP")
    built = [*cxx, *options(flags), "-O1", *RACES]
    # Compiled with OpenMP and linked without.
    run(*built, "-fopenmp", "-c", HERE / "fuzz.cpp", "-o", tmp_path / "fuzz.o")
    run(*built, "-pthread", tmp_path / "fuzz.o", HERE / "threads.cpp", "-o", program)
    print(run(program, "1", str(CALLS), "8"))


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="flags of x86 CPUs")
@pytest.mark.parametrize("march", ["x86-64", "x86-64-v3", "x86-64-v4", "sapphirerapids"])
def test_kernels_compile_without_a_warning(tmp_path: Path, march: str) -> None:
    """Also for CPUs that this one isn't: the last two have vectors of 512 bits, and the last one bfloat16."""
    cxx = compiler(["-O2"], tmp_path)
    warnings = ["-Wall", "-Wextra", "-Werror"]
    run(
        *cxx,
        *build.FLAGS,
        f"-march={march}",
        *warnings,
        "-fopenmp",
        build.SOURCE,
        "-o",
        tmp_path / "kernels.so",
    )
