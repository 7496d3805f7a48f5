"""The query engine of LlamaIndex."""

import asyncio
import importlib

import pytest

from fidkit import Answerer
from fidkit.errors import UsageError

from .conftest import GARDEN, QUESTION, UNSAID

pytestmark = pytest.mark.adapters


@pytest.fixture(scope="module")
def schema():
    return importlib.import_module("llama_index.core.schema")


@pytest.fixture(scope="module")
def engine(answerer):
    from fidkit.adapters.llamaindex import FidkitQueryEngine

    return FidkitQueryEngine(answerer, k=3, test_evidence=1)


def test_an_answer_with_its_evidence(engine):
    response = engine.query(QUESTION)
    assert (str(response), response.metadata["answer"]) == ("Aoife Brennan", "Aoife Brennan")
    [first, *others] = response.source_nodes
    assert len(others) == 2
    assert (first.node.node_id, first.node.metadata["source"]) == ("harbour.txt#1", "harbour.txt:0-84")
    assert (first.node.start_char_idx, first.node.end_char_idx) == (0, 84)
    assert first.node.metadata["span"] == [34, 47]
    assert first.node.metadata["without"]["answer"] != "Aoife Brennan"
    assert first.score == max(one.score for one in response.source_nodes)
    assert "Brennan" in response.get_formatted_sources()
    assert str(asyncio.run(engine.aquery(QUESTION))) == "Aoife Brennan"


def test_a_language_model_is_shown_where_it_stands_and_no_more(schema, engine):
    [first, *_] = engine.query(QUESTION).source_nodes
    shown = first.node.get_content(schema.MetadataMode.LLM)
    assert "harbour.txt:0-84" in shown
    assert "span" not in shown


def test_an_answer_that_is_withheld(engine):
    response = engine.query(UNSAID)
    assert response.metadata["answer"] is None
    assert str(response) == "The documents don't seem to say."


def test_finding_and_reading_apart(schema, engine):
    asked = schema.QueryBundle(GARDEN)
    nodes = engine.retrieve(asked)
    assert nodes[0].node.metadata["source"] == "tea.md:0-74"
    response = engine.synthesize(asked, nodes[:1])
    assert str(response) == "Wanjiru Kamau"
    assert [one.node.metadata["where"] for one in response.source_nodes] == [{"heading": "Tea"}]
    more = [schema.NodeWithScore(node=schema.TextNode(text="The largest garden is Ada Moore's."))]
    response = asyncio.run(engine.asynthesize(asked, nodes[:1], more))
    assert {one.node.metadata["source"] for one in response.source_nodes} == {"tea.md:0-74", ""}


def test_without_documents(schema, engine):
    with Answerer("pocket") as bare, pytest.raises(UsageError, match="no documents"):
        type(engine)(bare).retrieve(schema.QueryBundle(GARDEN))
