import os
import subprocess
import sys

import pytest

from fidkit.errors import UsageError
from fidkit.native import threads


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
