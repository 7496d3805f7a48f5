"""What PyTorch pickled, read without running any code that it names."""

from __future__ import annotations

import pickle
import re
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fidkit.convert import strangers, wrapped
from fidkit.errors import CheckpointError

ALLOWED: tuple[type, ...] = (Namespace,)
"""Beside tensors and plain values: the options of FiD's and Atlas' runs. A record without behaviour."""


def read_pickle(path: Path, *, lazy: bool = False) -> Any:
    """What is in the file, in the CPU's memory.

    Args:
        path: as `torch.save` wrote it.
        lazy: read only what is looked at; then tensors are views of the file, to be copied before it changes.

    Raises:
        CheckpointError: missing, damaged, or holding Python objects that aren't `ALLOWED`; they are named.
    """
    strangers.require_weights(path)
    try:
        if not path.is_file():
            raise OSError("there is no such file")
        with torch.serialization.safe_globals(list(ALLOWED)):
            return torch.load(
                path, map_location="cpu", weights_only=True, mmap=lazy and zipfile.is_zipfile(path)
            )
    except Exception as error:  # a damaged pickle makes its reader stumble in any way
        raise CheckpointError(_complaint(path, error)) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Names and tensors, alone or in the dictionaries that training frameworks put around them.

    Raises:
        CheckpointError: see `read_pickle`; or other objects.
    """
    return wrapped.find_tensors(read_pickle(path), str(path))


def _complaint(path: Path, error: Exception) -> str:
    named = _refused(path, error)
    if named:
        return (
            f"{path}: holds {', '.join(named)}, which only running code of others could restore; expected "
            "tensors as PyTorch pickles them and nothing else; ask its maker for a checkpoint of tensors"
        )
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"{path}: expected tensors as PyTorch pickles them, but {reason}; download it again"


def _refused(path: Path, error: Exception) -> list[str]:
    """Names of what isn't allowed: all of a zipped file's, else the first."""
    if not isinstance(error, pickle.UnpicklingError):
        return []
    try:
        with torch.serialization.safe_globals(list(ALLOWED)):
            return sorted(set(torch.serialization.get_unsafe_globals_in_checkpoint(str(path))))
    except (ValueError, RuntimeError, pickle.UnpicklingError):
        return re.findall(r"GLOBAL ([\w.]+)", str(error))[:1]
