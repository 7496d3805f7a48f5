"""A reader on disk.

`files` says where it is and what is in it, and maps its weights as NumPy's arrays, without PyTorch;
`directory` has them as tensors, `weights` makes parameters of these, `moments` has what lies beside. Here all
of it is values; `fidkit.reader` makes readers of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fidkit.checkpoint.files import CONFIG, TOKENIZER_SHA256, WEIGHTS, is_bundled, locate
from fidkit.checkpoint.shapes import compare

if TYPE_CHECKING:
    from fidkit.checkpoint.directory import (
        TYPES,
        Saved,
        fingerprint,
        read,
        read_tensors,
        replace_file,
        save_tensors,
        type_of,
        upload,
    )
    from fidkit.checkpoint.rounding import rounded, to_int8
    from fidkit.checkpoint.weights import (
        FLOATS,
        assign,
        assign_in_place,
        is_finite,
        require_finite,
        require_floats,
    )

_WITH_TORCH = {
    "directory": (
        "TYPES", "Saved", "fingerprint", "read", "read_tensors", "replace_file", "save_tensors", "type_of",
        "upload",
    ),
    "rounding": ("rounded", "to_int8"),
    "weights": ("FLOATS", "assign", "assign_in_place", "is_finite", "require_finite", "require_floats"),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    for module, names in _WITH_TORCH.items():
        if name in names:
            return getattr(import_module(f"fidkit.checkpoint.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "CONFIG",
    "FLOATS",
    "TOKENIZER_SHA256",
    "TYPES",
    "WEIGHTS",
    "Saved",
    "assign",
    "assign_in_place",
    "compare",
    "fingerprint",
    "is_bundled",
    "is_finite",
    "locate",
    "read",
    "read_tensors",
    "replace_file",
    "require_finite",
    "require_floats",
    "rounded",
    "save_tensors",
    "to_int8",
    "type_of",
    "upload",
]
