"""The threads that kernels share work among (threads.h): by themselves (threads.cpp), and from Python."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fidkit.errors import UsageError
from fidkit.native import Encoder, Kernels, address, binding, build, kernels, threads
from forked import forked
from programs import RACES, compiler, program, run

HERE = Path(__file__).parent
KERNELS = build.SOURCE.parent
ALONE = ["-std=c++17", "-O2", "-g1", "-pthread", f"-I{KERNELS}", "-Wall", "-Wextra", "-Werror"]


@pytest.fixture
def built() -> Kernels:
    return kernels() or pytest.skip("no native kernels")


@pytest.fixture(scope="module")
def alone(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cxx = compiler(["-O2"], tmp_path_factory.mktemp("threads"))
    return program(pytestconfig, cxx, ALONE, HERE / "threads.cpp")


@pytest.mark.parametrize("what", ["stages", "failure", "fork", "idle", "shared", "absent"])
def test_alone(alone: Path, what: str) -> None:
    run(alone, what)


def test_no_two_threads_race(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    made = program(pytestconfig, compiler(RACES, tmp_path), [*ALONE, *RACES], HERE / "threads.cpp")
    for what in ("stages", "failure", "absent"):
        run(made, what)


def sums(built: Kernels) -> np.ndarray:
    gate, inner = (np.linspace(-3, 3, 10_000, dtype=np.float32) for _ in range(2))
    return built.gated_gelu(gate, inner)


def test_a_child_has_threads_of_its_own(built: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "threads", lambda: 2)
    wanted = sums(built)

    def work() -> None:
        for _ in range(100):
            np.testing.assert_array_equal(sums(built), wanted)

    assert forked(work) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_signals_go_to_the_threads_of_the_program(built: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours take none, but for what one of them did wrong itself."""
    monkeypatch.setattr(binding, "threads", lambda: 3)

    def blocked(thread: Path) -> int:
        [mask] = re.findall(r"^SigBlk:\s*(\w+)$", (thread / "status").read_text(), re.MULTILINE)
        return int(mask, 16)

    def work() -> None:
        before = set(Path("/proc/self/task").iterdir())
        sums(built)
        ours = set(Path("/proc/self/task").iterdir()) - before
        assert ours
        faults = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT)
        for thread in ours:
            # A thread that only begins has all blocked for a moment, by the C library.
            deadline = time.monotonic() + 20
            while any(blocked(thread) >> one - 1 & 1 for one in faults):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            mask = blocked(thread)
            assert all(mask >> one - 1 & 1 for one in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1))

    assert forked(work) == 0


@pytest.mark.parametrize("count", [1, 2, 3, 64])
def test_any_number_of_threads_computes_the_same(
    built: Kernels, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    wanted = sums(built)
    monkeypatch.setattr(binding, "threads", lambda: count)
    np.testing.assert_array_equal(sums(built), wanted)


@pytest.mark.parametrize("count", [1, 2])
def test_memory_that_runs_out_is_said(built: Kernels, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """A row whose heads would need terabytes."""
    monkeypatch.setattr(binding, "threads", lambda: count)
    states, starts = np.zeros((1, 16), np.float32), np.array([0, 1])
    huge = Encoder(address(states), address(starts), 1, 16, 2**40, 16, 16, 1, 0)
    with pytest.raises(MemoryError, match="no memory was left for the native kernels"):
        built.encode(huge, 32)
    assert np.isfinite(sums(built)).all()


def test_a_failure_in_a_thread_is_said(built: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vector of which a thread can't keep a copy as integers."""
    monkeypatch.setattr(binding, "threads", lambda: 2)
    x, weight = np.zeros((2, 16), np.float32), binding.Packed(None, None, None, 16, 2**50)
    with pytest.raises(MemoryError, match="read fewer passages"):
        built.product(x, weight, 16)


@pytest.mark.parametrize("said", ["0", "-1", "1024", "10000", "two", "1.5"])
def test_a_number_of_threads_that_cannot_be(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    expected = f"OMP_NUM_THREADS is {said}; expected 1 to 1,023 threads, such as "
    with pytest.raises(UsageError, match=expected):
        threads.default()
    for given in (0, 10_000):
        with pytest.raises(UsageError, match=f"here is {given}; expected 1 to 1,023 threads"):
            threads.checked(given, "here")


@pytest.mark.parametrize(("said", "number"), [("1", 1), ("3,2", 3), (" 1023 ", 1023)])
def test_a_number_of_threads(monkeypatch: pytest.MonkeyPatch, said: str, number: int) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert threads.default() == number


@pytest.mark.parametrize("said", ["", " ", None])
def test_without_one_there_is_one_a_core(monkeypatch: pytest.MonkeyPatch, said: str | None) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert threads.default() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("said", ["0", "10000"])
def test_it_is_refused_before_any_work(said: str) -> None:
    """Where there is no PyTorch, which has a number of its own."""
    opening = "from fidkit.native import kernels; kernels()"
    asking = "from fidkit.cli import main; main(['ask', 'who?'])"
    for script in (opening, asking):
        command = [sys.executable, "-c", script]
        env = {**os.environ, "OMP_NUM_THREADS": said}
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=env)
        assert (done.returncode, done.stdout) == (2 if script is asking else 1, "")
        assert f"OMP_NUM_THREADS is {said}; expected 1 to 1,023 threads" in done.stderr
