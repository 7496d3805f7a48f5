"""Documents and answers for LlamaIndex: a query engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
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
from fidkit.errors import UsageError
from fidkit.passages.filter import Filter
from fidkit.types import Passage

try:
    from llama_index.core.base.base_query_engine import BaseQueryEngine
    from llama_index.core.base.response.schema import Response
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode
except ModuleNotFoundError as error:
    raise lacking(error, "llamaindex") from error

# What a language model that is shown a node should see beside its text.
_SHOWN = ("title", "source")


class FidkitQueryEngine(BaseQueryEngine):
    """Answers questions: `FidkitQueryEngine(answerer).query("who wrote it?")`.

    The response has the answer, or that the documents don't seem to say. `metadata` has `answer` (None
    then), `guess`, `confidence` and more. `source_nodes` are the evidence, the one with the largest share
    first, with `source`, `where`, `characters` and more (`fidkit.adapters.common.of_evidence`).
    `retrieve` finds passages without reading them, and `synthesize` reads those of somebody else.

    Args:
        answerer: documents and a reader; it stays open.
        k: passages to find and to read, at most.
        where: conditions on documents, as `fidkit ask --where` takes them.
        test_evidence: for so many passages, what the answer would be without each (`without`).
        callback_manager: of LlamaIndex.
    """

    def __init__(
        self,
        answerer: Answerer,
        k: int = 40,
        where: Sequence[str] = (),
        test_evidence: int = 0,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        super().__init__(callback_manager)
        self.answerer, self.k, self.where, self.test_evidence = answerer, k, where, test_evidence

    def retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """Find passages.

        Raises:
            UsageError: an empty question, or an answerer without documents.
        """
        corpus = self.answerer.corpus
        if corpus is None:
            raise UsageError(
                "this answerer has no documents to search; make it with Answerer.open(documents)"
            )
        hits = corpus.search(query_bundle.query_str, self.k, where=Filter.parse(self.where))
        return [_node(hit.passage, of_hit(hit, corpus)) for hit in hits]

    def synthesize(
        self,
        query_bundle: QueryBundle,
        nodes: Sequence[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> Response:
        """Answer from nodes that were found before."""
        given = [*nodes, *(additional_source_nodes or ())]
        passages = [
            passage_of(number, one.node.get_content(MetadataMode.NONE), one.node.metadata, one.node.node_id)
            for number, one in enumerate(given, 1)
        ]
        return self._answered(query_bundle, passages)

    async def asynthesize(
        self,
        query_bundle: QueryBundle,
        nodes: Sequence[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> Response:
        """The same, in a thread."""
        return await asyncio.to_thread(self.synthesize, query_bundle, nodes, additional_source_nodes)

    def _query(self, query_bundle: QueryBundle) -> Response:
        return self._answered(query_bundle, None)

    async def _aquery(self, query_bundle: QueryBundle) -> Response:
        return await asyncio.to_thread(self._query, query_bundle)

    def _get_prompt_modules(self) -> dict[str, Any]:
        return {}

    def _answered(self, query_bundle: QueryBundle, given: list[Passage] | None) -> Response:
        answer = answered(
            self.answerer, query_bundle.query_str, given, self.k, self.where, self.test_evidence
        )
        nodes = [_node(one.passage, of_evidence(one)) for one in answer.evidence]
        return Response(in_words(answer), nodes, of_answer(answer))


def _node(passage: Passage, about: dict[str, Any]) -> NodeWithScore:
    start, end = about["characters"] or (None, None)
    hidden = [name for name in about if name not in _SHOWN]
    node = TextNode(
        id_=passage.id, text=passage.text, metadata=about, start_char_idx=start, end_char_idx=end,
        excluded_llm_metadata_keys=hidden, excluded_embed_metadata_keys=hidden,
    )  # fmt: skip
    return NodeWithScore(node=node, score=about["score"])
