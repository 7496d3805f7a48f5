"""fidkit: read many passages to answer one question, fast.

Public names are imported when first used, so that `import fidkit` needs neither torch nor time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Alternative": "fidkit.types",
    "Answer": "fidkit.types",
    "Answerer": "fidkit.answerer",
    "Corpus": "fidkit.passages",
    "Decoding": "fidkit.engine.generation.decoding",
    "Embedder": "fidkit.engine.embedder",
    "Evidence": "fidkit.types",
    "FidkitError": "fidkit.errors",
    "Filter": "fidkit.passages",
    "Hit": "fidkit.types",
    "Passage": "fidkit.types",
    "Reader": "fidkit.reader",
    "ReaderConfig": "fidkit.config",
    "StackConfig": "fidkit.config",
}

__all__ = ["__version__", "presets", *_HOMES]

if TYPE_CHECKING:
    from fidkit.answerer import Answerer
    from fidkit.config import ReaderConfig, StackConfig
    from fidkit.engine.embedder import Embedder
    from fidkit.engine.generation.decoding import Decoding
    from fidkit.errors import FidkitError
    from fidkit.passages import Corpus, Filter
    from fidkit.preset import PRESETS as presets
    from fidkit.reader import Reader
    from fidkit.types import Alternative, Answer, Evidence, Hit, Passage


def __getattr__(name: str) -> Any:
    if name == "presets":
        return importlib.import_module("fidkit.preset").PRESETS
    if name in _HOMES:
        try:
            return getattr(importlib.import_module(_HOMES[name]), name)
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            from fidkit.errors import WITH_TORCH  # when it is needed: names have to come fast

            raise ModuleNotFoundError(
                f"fidkit.{name} needs PyTorch, which is not installed; {WITH_TORCH}", name="torch"
            ) from error
    raise AttributeError(f"module 'fidkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
