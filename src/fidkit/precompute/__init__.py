"""Builds the memory of a corpus: plans what is missing, encodes it, commits it.

unit -> work -> plan, codec -> local, ranks, cluster -> records -> opened -> build -> onepass
"""

from fidkit.precompute.build import build, repair
from fidkit.precompute.records import BuildForecast, MemoryReport, Options
from fidkit.precompute.work import build_unit

__all__ = ["BuildForecast", "MemoryReport", "Options", "build", "build_unit", "repair"]
