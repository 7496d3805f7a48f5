"""docs/reproduce.md: what `benchmarks/paper.py` measured, set beside the FiDO paper.

rows -> results -> tables, verdicts, plots -> sections -> page
"""
