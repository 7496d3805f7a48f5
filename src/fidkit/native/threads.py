"""How many threads a kernel takes."""

from __future__ import annotations

import os
import sys


def threads() -> int:
    """PyTorch's number, where it is there; else one a core that this process may use."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        return int(torch.get_num_threads())
    return default()


def default() -> int:
    """`OMP_NUM_THREADS`, or the cores that this process may use."""
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if said.isdecimal() and 0 < int(said) < 2**10:
        return int(said)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
