"""Builds the memory of a corpus: plans what is missing, encodes it, commits it.

unit -> work -> plan, codec -> local, ranks, cluster -> records -> build
"""

from fidkit.precompute.build import build, repair
from fidkit.precompute.records import BuildReport, Forecast, Options
from fidkit.precompute.work import build_unit

__all__ = ["BuildReport", "Forecast", "Options", "build", "build_unit", "repair"]
