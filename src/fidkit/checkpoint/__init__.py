"""A reader on disk: `directory` has its files, `weights` what becomes parameters, `moments` what lies beside.

Here all of it is values; `fidkit.reader` makes readers of them.
"""

from fidkit.checkpoint.directory import (
    CONFIG,
    TOKENIZER_SHA256,
    TYPES,
    WEIGHTS,
    Saved,
    fingerprint,
    is_bundled,
    locate,
    read,
    read_tensors,
    replace_file,
    save_tensors,
    type_of,
    upload,
)
from fidkit.checkpoint.rounded import rounded, to_int8
from fidkit.checkpoint.weights import (
    FLOATS,
    assign,
    assign_in_place,
    compare,
    is_finite,
    require_finite,
    require_floats,
)

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
