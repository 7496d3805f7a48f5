"""How good answers are: question files, answer metrics and reports. No torch here."""

from fidkit.evaluate.evaluate import Report, Result, evaluate
from fidkit.evaluate.metrics import exact_match, f1, has_answer, normalize_answer, recall_at
from fidkit.questions.files import Question, read_questions

__all__ = [
    "Question",
    "Report",
    "Result",
    "evaluate",
    "exact_match",
    "f1",
    "has_answer",
    "normalize_answer",
    "read_questions",
    "recall_at",
]
