"""How many threads a kernel takes at most.

They are the kernels' own (`threads.h`); a call gets fewer while others are under way.
"""

from __future__ import annotations

import os
import sys

from fidkit.errors import UsageError

MOST = 1023
"""More than any machine has cores for; a larger number is an accident."""


def threads() -> int:
    """PyTorch's number, where it is there; else one a core that this process may use.

    Raises:
        UsageError: a number of threads that can't be.
    """
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        return checked(int(torch.get_num_threads()), "PyTorch's number of threads")
    return default()


def default() -> int:
    """`OMP_NUM_THREADS`, or the cores that this process may use.

    Raises:
        UsageError: it is no number of threads.
    """
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if said:
        return checked(said, "OMP_NUM_THREADS")
    return _cores()


def checked(given: str | int, name: str) -> int:
    """A number of threads, from 1 to `MOST`.

    Raises:
        UsageError: it is none; `name` says of what.
    """
    said = str(given)
    if not (said.isdecimal() and 1 <= int(said) <= MOST):
        raise UsageError(f"{name} is {said}; expected 1 to {MOST:,} threads, such as {_cores()}, one a core")
    return int(said)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
