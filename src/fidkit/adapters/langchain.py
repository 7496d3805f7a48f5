"""Documents and answers for LangChain: a retriever, and a runnable that answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import SkipValidation

from fidkit.adapters.common import answered, lacking, of_answer, of_evidence, of_hit, passage_of
from fidkit.answerer import Answerer
from fidkit.errors import UsageError
from fidkit.passages.filter import Filter
from fidkit.passages.protocol import Passages

try:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables import Runnable, RunnableConfig
except ModuleNotFoundError as error:
    raise lacking(error, "langchain") from error


class FidkitRetriever(BaseRetriever):
    """Finds passages: `FidkitRetriever(corpus=corpus).invoke("who wrote it?")`.

    Documents have `source`, `where`, `characters`, `score` and more in their metadata
    (`fidkit.adapters.common.of_hit`).

    Attributes:
        corpus: where passages are found; it stays open.
        k: passages, at most.
        where: conditions on documents, as `fidkit ask --where` takes them.
    """

    corpus: SkipValidation[Passages]
    k: int = 10
    where: Sequence[str] = ()

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        hits = self.corpus.search(query, self.k, where=Filter.parse(self.where))
        return [
            Document(hit.passage.text, id=hit.passage.id, metadata=of_hit(hit, self.corpus)) for hit in hits
        ]


class FidkitAnswerer(Runnable[str | dict[str, Any], dict[str, Any]]):
    """Answers questions: `FidkitAnswerer(answerer).invoke("who wrote it?")["answer"]`.

    It takes a question, or `{"input": question, "context": documents}`, of which the documents are read and
    nothing is searched for. It gives what `create_retrieval_chain` gives, and more: `input`, `context` (the
    evidence as documents, the one with the largest share first), `answer` (None where it was withheld),
    `guess`, `confidence`, `verbatim`, `score`, `timings_ms`, `notes`.

    Args:
        answerer: documents and a reader; it stays open.
        k: passages to read, at most.
        where: conditions on documents, as `fidkit ask --where` takes them.
        test_evidence: for so many passages, what the answer would be without each (`without`).
    """

    def __init__(
        self, answerer: Answerer, k: int = 40, where: Sequence[str] = (), test_evidence: int = 0
    ) -> None:
        self.answerer, self.k, self.where, self.test_evidence = answerer, k, where, test_evidence

    def invoke(
        self, input: str | dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Answer one question.

        Raises:
            UsageError: the input is neither a question nor a dictionary with one, or a question is empty.
        """
        return self._call_with_config(self._answer, input, config, **kwargs)

    def _answer(self, given: str | dict[str, Any]) -> dict[str, Any]:
        asked = given if isinstance(given, dict) else {"input": given}
        question, context = asked.get("input"), asked.get("context")
        if not isinstance(question, str):
            raise UsageError(
                f"the input is {given!r}; expected a question, or {{'input': question, 'context': documents}}"
            )
        passages = None
        if context is not None:
            passages = [
                passage_of(number, one.page_content, one.metadata, one.id)
                for number, one in enumerate(context, 1)
            ]
        answer = answered(self.answerer, question, passages, self.k, self.where, self.test_evidence)
        evidence = [
            Document(one.passage.text, id=one.passage.id, metadata=of_evidence(one))
            for one in answer.evidence
        ]
        return {"input": question, "context": evidence, **of_answer(answer)}
