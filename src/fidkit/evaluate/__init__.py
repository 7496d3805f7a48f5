"""How good answers are: answer metrics and reports. No torch here."""

from fidkit.evaluate.evaluate import Report, Result, evaluate
from fidkit.evaluate.metrics import exact_match, f1, has_answer, normalize_answer, recall_at

__all__ = [
    "Report",
    "Result",
    "evaluate",
    "exact_match",
    "f1",
    "has_answer",
    "normalize_answer",
    "recall_at",
]
