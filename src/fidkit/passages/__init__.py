"""Documents and passage files made searchable: `Corpus.build`, `Corpus.open`, `corpus.search`.

Names are imported when first used: which files are read (`load.table`) costs no search engine.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fidkit.passages.filter import Filter
    from fidkit.passages.local.corpus import Corpus
    from fidkit.passages.local.info import CorpusInfo
    from fidkit.passages.local.layout import CorpusBusyError, default_location, is_corpus
    from fidkit.passages.local.report import BuildProgress, BuildReport
    from fidkit.passages.protocol import Passages, Retriever
    from fidkit.passages.token_cache import TokenCache

_HOMES = {
    "BuildReport": "local.report",
    "Corpus": "local.corpus",
    "CorpusBusyError": "local.layout",
    "CorpusInfo": "local.info",
    "Filter": "filter",
    "Passages": "protocol",
    "BuildProgress": "local.report",
    "Retriever": "protocol",
    "TokenCache": "token_cache",
    "default_location": "local.layout",
    "is_corpus": "local.layout",
}

__all__ = [
    "BuildProgress",
    "BuildReport",
    "Corpus",
    "CorpusBusyError",
    "CorpusInfo",
    "Filter",
    "Passages",
    "Retriever",
    "TokenCache",
    "default_location",
    "is_corpus",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
