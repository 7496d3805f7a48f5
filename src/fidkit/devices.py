"""What a reader runs on: one rule for all commands and for Python."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fidkit.errors import UsageError

if TYPE_CHECKING:
    import torch

HELP = "auto (a GPU if there is one), cpu, cuda, or cuda:1."
"""Of the option `--device`, wherever there is one."""

# What there is where NVIDIA's driver is: on Linux, and in Windows' Linux.
_DRIVERS = (Path("/proc/driver/nvidia/version"), Path("/dev/dxg"))
_CUDA = re.compile(r"cuda(?::(\d{1,4}))?", re.ASCII)


def on_cpu(name: str | torch.device = "auto") -> bool:
    """Whether that is the CPU; PyTorch is asked only where it is installed and a driver for GPUs is, too."""
    text = str(name)
    if text != "auto":
        return text == "cpu"
    if "torch" not in sys.modules and not (has_torch() and any(path.exists() for path in _DRIVERS)):
        return True
    import torch

    return not torch.cuda.is_available()


def has_torch() -> bool:
    """Whether PyTorch is installed."""
    try:
        return "torch" in sys.modules or find_spec("torch") is not None
    except ImportError:  # somebody keeps it away
        return False


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """The device of a name: `auto` takes a GPU if there is one, else the CPU.

    Args:
        name: `auto`, `cpu`, `cuda` (the first that PyTorch offers) or `cuda:1`.

    Raises:
        UsageError: no such name, or PyTorch sees no such device here.
    """
    import torch

    text = str(name)
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if text == "auto":
        return torch.device("cuda" if there else "cpu")
    if text == "cpu":
        return torch.device("cpu")
    match = _CUDA.fullmatch(text)
    if match is None:
        raise UsageError(f"the device is {text!r}; expected auto, cpu, cuda or cuda:1")
    if not there:
        raise UsageError(
            f"the device is {text!r}, but PyTorch sees no CUDA device here; give cpu or auto, "
            "`fidkit doctor` lists what is there"
        )
    if int(match[1] or 0) >= there:
        seen = ", ".join(f"cuda:{index}" for index in range(there))
        raise UsageError(f"the device is {text!r}, but PyTorch sees only {seen}; give one of these")
    return torch.device(text)
