"""Checkpoints of other libraries in and out, and readers of one shape into another."""

from __future__ import annotations

from fidkit.convert.notes import Notes
from fidkit.convert.reshape import reshape
from fidkit.convert.source import load
from fidkit.convert.t5 import export_t5, import_t5

__all__ = ["Notes", "export_t5", "import_t5", "load", "reshape"]
