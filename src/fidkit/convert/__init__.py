"""Checkpoints of other libraries in and out, and readers of one shape into another."""

from __future__ import annotations

from fidkit.convert.export import export_fid, export_t5
from fidkit.convert.foreign import import_t5, load
from fidkit.convert.grow import decoder_stack
from fidkit.convert.moments import carry_moments
from fidkit.convert.notes import Notes
from fidkit.convert.reshape import Knobs, reshape

__all__ = [
    "Knobs",
    "Notes",
    "carry_moments",
    "decoder_stack",
    "export_fid",
    "export_t5",
    "import_t5",
    "load",
    "reshape",
]
