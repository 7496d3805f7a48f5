"""Checkpoints of other libraries in and out, and readers of one shape into another."""

from __future__ import annotations

from fidkit.convert.export import export_bert, export_fid, export_t5
from fidkit.convert.foreign import import_hf, import_t5, load
from fidkit.convert.grow import decoder_stack
from fidkit.convert.moments import carry_moments
from fidkit.convert.notes import Notes
from fidkit.convert.pooling import carry_pooling, find_pooling
from fidkit.convert.reshape import Knobs, reshape

__all__ = [
    "Knobs",
    "Notes",
    "carry_moments",
    "carry_pooling",
    "decoder_stack",
    "export_bert",
    "export_fid",
    "export_t5",
    "find_pooling",
    "import_hf",
    "import_t5",
    "load",
    "reshape",
]
