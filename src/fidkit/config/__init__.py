"""The space of readers as data. No torch here: cost models and the command line read it too.

refusals -> strict, formats -> stack -> possible -> reader
"""

from fidkit.config.formats import FORMAT_FIELDS, TWO_PARTS, check_format
from fidkit.config.reader import LiveAttention, ReaderConfig, RerankConfig
from fidkit.config.refusals import Refusal, refusals
from fidkit.config.stack import MOST, StackConfig, whole_layers
from fidkit.config.strict import Strict, parse, said

__all__ = [
    "FORMAT_FIELDS",
    "MOST",
    "TWO_PARTS",
    "LiveAttention",
    "ReaderConfig",
    "Refusal",
    "RerankConfig",
    "StackConfig",
    "Strict",
    "check_format",
    "parse",
    "refusals",
    "said",
    "whole_layers",
]
