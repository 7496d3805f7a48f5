"""Files of questions in the layouts of the field. No torch here."""

from fidkit.questions.files import Question, read_questions

__all__ = ["Question", "read_questions"]
