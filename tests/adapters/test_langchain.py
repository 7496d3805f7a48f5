"""The retriever and the runnable in chains of LangChain."""

import asyncio
import importlib
from operator import itemgetter

import pytest

from fidkit.errors import UsageError

from .conftest import GARDEN, QUESTION, UNSAID

pytestmark = pytest.mark.adapters


@pytest.fixture(scope="module")
def runnables():
    return importlib.import_module("langchain_core.runnables")


@pytest.fixture(scope="module")
def adapter():
    from fidkit.adapters import langchain as made

    return made


def test_passages_are_found(adapter, corpus):
    [first, second] = adapter.FidkitRetriever(corpus=corpus, k=2).invoke(QUESTION)
    assert first.id == "harbour.txt#1"
    assert first.page_content.startswith("The harbour master")
    assert (first.metadata["source"], first.metadata["characters"]) == ("harbour.txt:0-84", [0, 84])
    assert first.metadata["score"] > second.metadata["score"]
    [tea] = adapter.FidkitRetriever(corpus=corpus, where=["source=tea.md"]).invoke(QUESTION)
    assert tea.metadata["where"] == {"heading": "Tea"}


def test_an_answer_with_its_evidence(adapter, answerer):
    told = adapter.FidkitAnswerer(answerer, test_evidence=1).invoke(QUESTION)
    assert (told["input"], told["answer"]) == (QUESTION, "Aoife Brennan")
    [first, *_] = told["context"]
    assert (first.metadata["source"], first.metadata["span"]) == ("harbour.txt:0-84", [34, 47])
    assert first.metadata["without"]["answer"] != "Aoife Brennan"
    assert told["confidence"] > 0.5
    assert adapter.FidkitAnswerer(answerer).invoke(UNSAID)["answer"] is None


def test_a_chain(runnables, adapter, answerer, corpus):
    """What a retriever found is read; the places of passages survive the way."""
    found = adapter.FidkitRetriever(corpus=corpus, k=1)
    chain = {"input": runnables.RunnablePassthrough(), "context": found} | adapter.FidkitAnswerer(answerer)
    told = chain.invoke(GARDEN)
    assert told["answer"] == "Wanjiru Kamau"
    assert [one.metadata["where"] for one in told["context"]] == [{"heading": "Tea"}]
    chosen = adapter.FidkitAnswerer(answerer) | itemgetter("answer")
    assert chosen.batch([QUESTION, GARDEN]) == ["Aoife Brennan", "Wanjiru Kamau"]
    assert asyncio.run(chosen.ainvoke(QUESTION)) == "Aoife Brennan"


@pytest.mark.parametrize("given", [7, {"question": "who?"}, {"input": None}])
def test_what_is_no_question(adapter, answerer, given):
    with pytest.raises(UsageError, match="expected a question"):
        adapter.FidkitAnswerer(answerer).invoke(given)
