"""Builds the memory of a corpus: plans what is missing, encodes it, commits it.

unit -> work -> plan, codec -> local, ranks, cluster -> build
"""

from fidkit.precompute.build import BuildReport, Forecast, Options, build, repair
from fidkit.precompute.work import build_unit

__all__ = ["BuildReport", "Forecast", "Options", "build", "build_unit", "repair"]
