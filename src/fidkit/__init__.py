"""fidkit: read many passages to answer one question, fast.

Public names are imported when first used, so that `import fidkit` needs neither torch nor time.
"""

from __future__ import annotations

# Nothing is imported up here, not even `typing`: before `fidkit.cli.main` runs, Ctrl-C shows a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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
    # Named twice, since a type checker takes an import for a public name only so.
    from fidkit.answerer import Answerer as Answerer
    from fidkit.config import ReaderConfig as ReaderConfig
    from fidkit.config import StackConfig as StackConfig
    from fidkit.engine.embedder import Embedder as Embedder
    from fidkit.engine.generation.decoding import Decoding as Decoding
    from fidkit.errors import FidkitError as FidkitError
    from fidkit.passages import Corpus as Corpus
    from fidkit.passages import Filter as Filter
    from fidkit.reader import Reader as Reader
    from fidkit.types import Alternative as Alternative
    from fidkit.types import Answer as Answer
    from fidkit.types import Evidence as Evidence
    from fidkit.types import Hit as Hit
    from fidkit.types import Passage as Passage

    presets: dict[str, ReaderConfig]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "presets":
        return import_module("fidkit.preset").PRESETS
    if name in _HOMES:
        try:
            return getattr(import_module(_HOMES[name]), name)
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
