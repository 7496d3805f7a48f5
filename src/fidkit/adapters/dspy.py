"""Documents and answers for DSPy: a retriever, and a module that answers without a language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fidkit.adapters.common import answered, lacking, of_answer, of_evidence, of_hit
from fidkit.answerer import Answerer
from fidkit.passages.filter import Filter
from fidkit.passages.protocol import Passages

try:
    import dspy
    from dspy.dsp.utils import dotdict
except ModuleNotFoundError as error:
    raise lacking(error, "dspy") from error


class FidkitRetriever(dspy.Retrieve):
    """Finds passages: by itself, or as what `dspy.Retrieve` asks after `dspy.configure(rm=...)`.

    Each has its text as `long_text`, and beside it `source`, `where`, `characters`, `score` and more
    (`fidkit.adapters.common.of_hit`).

    Args:
        corpus: where passages are found; it stays open.
        k: passages, at most.
        where: conditions on documents, as `fidkit ask --where` takes them.
    """

    def __init__(self, corpus: Passages, k: int = 3, where: Sequence[str] = ()) -> None:
        super().__init__(k=k)
        self.corpus, self.where = corpus, where

    def forward(self, query: str, k: int | None = None, **kwargs: Any) -> list[dotdict]:
        """The passages that match best, best first."""
        hits = self.corpus.search(query, k or self.k, where=Filter.parse(self.where))
        return [dotdict(long_text=hit.passage.text, **of_hit(hit, self.corpus)) for hit in hits]


class FidkitAnswerer(dspy.Module):
    """Answers questions: `FidkitAnswerer(answerer)(question="who wrote it?").answer`.

    The prediction has `answer` (None where it was withheld), `guess`, `confidence` and more; `context` is the
    texts of the passages that were read, the one with the largest share first, and `evidence` what is known
    of each (`fidkit.adapters.common.of_evidence`).

    Args:
        answerer: documents and a reader; it stays open.
        k: passages to read, at most.
        where: conditions on documents, as `fidkit ask --where` takes them.
        test_evidence: for so many passages, what the answer would be without each (`without`).
    """

    def __init__(
        self, answerer: Answerer, k: int = 40, where: Sequence[str] = (), test_evidence: int = 0
    ) -> None:
        super().__init__()
        self.answerer, self.k, self.where, self.test_evidence = answerer, k, where, test_evidence

    def forward(self, question: str) -> dspy.Prediction:
        """Answer one question."""
        answer = answered(self.answerer, question, None, self.k, self.where, self.test_evidence)
        return dspy.Prediction(
            context=[one.passage.text for one in answer.evidence],
            evidence=[of_evidence(one) for one in answer.evidence],
            **of_answer(answer),
        )
