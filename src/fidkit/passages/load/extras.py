"""Kinds of files that need packages which `pip install fidkit` alone doesn't bring."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

from fidkit.passages.load.record import UnreadableFile

MODULES = (
    "charset_normalizer", "lxml", "pypdfium2", "python_calamine", "striprtf"
)  # fmt: skip
"""What the extra `documents` brings, by the names that are imported."""

COMMAND = "pip install 'fidkit[documents]'"
READS_IT = f"`{COMMAND}` reads it"
"""How the reason of a file ends that is left out for want of the extra."""


@cache
def is_complete() -> bool:
    """Whether all packages of the extra are there."""
    return all(find_spec(module) for module in MODULES)


def is_lacking(error: Exception) -> bool:
    """Whether what failed is the import of a package of the extra."""
    return isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in MODULES


def lacking(name: str, module: str) -> UnreadableFile:
    """The error for a file whose kind needs a package that isn't installed."""
    return UnreadableFile(name, READS_IT, f"it needs {module}, which isn't installed")


def may_be_read_now(reason: str) -> bool:
    """Whether a file that was left out, or a part of it, for want of the extra has to be looked at again."""
    return reason.endswith(READS_IT) and is_complete()
