"""Documents and answers for Haystack: a component that finds, and one that answers."""

from __future__ import annotations

import logging
from typing import Any

from fidkit.adapters.common import (
    answered,
    in_words,
    lacking,
    of_answer,
    of_evidence,
    of_hit,
    passage_of,
)
from fidkit.answerer import Answerer
from fidkit.engine.meaning import runnable
from fidkit.errors import UsageError
from fidkit.passages.filter import Filter
from fidkit.passages.local.corpus import Corpus
from fidkit.passages.opening import open_sources
from fidkit.passages.protocol import Passages

try:
    from haystack import Document, GeneratedAnswer, component, default_to_dict
except ModuleNotFoundError as error:
    raise lacking(error, "haystack") from error


_log = logging.getLogger(__name__)


@component
class FidkitRetriever:
    """Finds passages of documents.

    They have `source`, `where`, `characters` and more in their `meta` (`fidkit.adapters.common.of_hit`).

    Args:
        documents: folders and files, or a built corpus; opened when the pipeline is warmed up. None takes
            fidkit's own documentation.
        top_k: passages, at most.
        where: conditions on documents, as `fidkit ask --where` takes them.
        corpus: an open one in the place of `documents`; it stays open, and such a pipeline can't be saved.
    """

    def __init__(
        self,
        documents: list[str] | None = None,
        top_k: int = 10,
        where: list[str] | None = None,
        corpus: Passages | None = None,
    ) -> None:
        self.documents, self.top_k, self.where, self.corpus = documents, top_k, where, corpus
        self._is_given = corpus is not None

    def warm_up(self) -> None:
        """Open the documents, if they aren't."""
        if self.corpus is None:
            self.corpus, notes = open_sources(self.documents, encoder=runnable())
            _say(notes)

    def close(self) -> None:
        """Close what was opened here; a later run opens it again."""
        if not self._is_given and isinstance(self.corpus, Corpus):
            self.corpus.close()
            self.corpus = None

    @component.output_types(documents=list[Document])
    def run(self, query: str, top_k: int | None = None) -> dict[str, list[Document]]:
        """Find passages; raises what `Corpus.search` raises."""
        self.warm_up()
        assert self.corpus is not None
        hits = self.corpus.search(query, top_k or self.top_k, where=Filter.parse(self.where or ()))
        return {"documents": [_document(h.passage.text, of_hit(h, self.corpus)) for h in hits]}

    def to_dict(self) -> dict[str, Any]:
        """For a pipeline that is saved."""
        _check_saved(self._is_given, "corpus")
        return default_to_dict(self, documents=self.documents, top_k=self.top_k, where=self.where)


@component
class FidkitAnswerer:
    """Answers questions from documents: of its own, or those that a retriever found.

    The answer's `documents` are the evidence, the one with the largest share first, with `source`, `where`,
    `characters` and more in their `meta` (`fidkit.adapters.common.of_evidence`). Its `meta` has `answer`
    (None where it was withheld), `guess`, `confidence` and more.

    Args:
        documents: folders and files, or a built corpus; opened when the pipeline is warmed up. None takes
            fidkit's own documentation.
        reader: what `Answerer.open` takes.
        top_k: passages to read, at most, where none are given.
        where: conditions on documents, as `fidkit ask --where` takes them.
        test_evidence: for so many passages, what the answer would be without each (`without`).
        answerer: an open one in the place of `documents` and `reader`; it stays open, and such a pipeline
            can't be saved.
    """

    def __init__(
        self,
        documents: list[str] | None = None,
        reader: str = "pocket",
        top_k: int = 40,
        where: list[str] | None = None,
        test_evidence: int = 0,
        answerer: Answerer | None = None,
    ) -> None:
        self.documents, self.reader, self.top_k, self.where = documents, reader, top_k, where
        self.test_evidence, self.answerer = test_evidence, answerer
        self._is_given = answerer is not None

    def warm_up(self) -> None:
        """Open documents and reader, if they aren't."""
        if self.answerer is None:
            self.answerer = Answerer.open(self.documents, self.reader)
            _say(self.answerer.notes)

    def close(self) -> None:
        """Close what was opened here; a later run opens it again."""
        if not self._is_given and self.answerer is not None:
            self.answerer.close()
            self.answerer = None

    @component.output_types(answers=list[GeneratedAnswer])
    def run(self, query: str, documents: list[Document] | None = None) -> dict[str, list[GeneratedAnswer]]:
        """Answer one question; documents that are given are read, and nothing is searched for."""
        self.warm_up()
        assert self.answerer is not None
        passages = None
        if documents is not None:
            passages = [passage_of(n, one.content, one.meta, one.id) for n, one in enumerate(documents, 1)]
        answer = answered(self.answerer, query, passages, self.top_k, self.where or (), self.test_evidence)
        read = [_document(one.passage.text, of_evidence(one)) for one in answer.evidence]
        return {"answers": [GeneratedAnswer(in_words(answer), query, read, of_answer(answer))]}

    def to_dict(self) -> dict[str, Any]:
        """For a pipeline that is saved."""
        _check_saved(self._is_given, "answerer")
        return default_to_dict(
            self, documents=self.documents, reader=self.reader, top_k=self.top_k, where=self.where,
            test_evidence=self.test_evidence,
        )  # fmt: skip


def _say(notes: tuple[str, ...]) -> None:
    """What a person should know of the documents, such as files that were left out."""
    for note in notes:
        _log.warning("%s", note)


def _check_saved(is_given: bool, what: str) -> None:
    if is_given:
        raise UsageError(
            f"this component was given an open {what}, which can't be saved; make it with documents=[...]"
        )


def _document(text: str, about: dict[str, Any]) -> Document:
    return Document(id=about["id"], content=text, meta=about, score=about["score"])
