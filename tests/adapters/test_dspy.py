"""The retriever and the module of DSPy."""

import importlib

import pytest

from .conftest import QUESTION, UNSAID

pytestmark = pytest.mark.adapters


@pytest.fixture(scope="module")
def dspy():
    return importlib.import_module("dspy")


@pytest.fixture(scope="module")
def adapter():
    from fidkit.adapters import dspy as made

    return made


def test_passages_are_found(adapter, corpus):
    found = adapter.FidkitRetriever(corpus, k=2)
    [first, second] = found(QUESTION)
    assert first.long_text.startswith("The harbour master")
    assert (first.source, first.characters) == ("harbour.txt:0-84", [0, 84])
    assert first.score > second.score
    assert len(found(QUESTION, k=1)) == 1
    [tea] = adapter.FidkitRetriever(corpus, where=["source=tea.md"])(QUESTION)
    assert tea.where == {"heading": "Tea"}


def test_what_programs_search_with(dspy, adapter, corpus):
    with dspy.context(rm=adapter.FidkitRetriever(corpus)):
        [text] = dspy.Retrieve(k=1)(QUESTION).passages
    assert text.startswith("The harbour master")


def test_an_answer_with_its_evidence(adapter, answerer):
    made = adapter.FidkitAnswerer(answerer, test_evidence=1)(question=QUESTION)
    assert made.answer == "Aoife Brennan"
    assert made.context[0].startswith("The harbour master")
    assert (made.evidence[0]["source"], made.evidence[0]["span"]) == ("harbour.txt:0-84", [34, 47])
    assert made.evidence[0]["without"]["answer"] != "Aoife Brennan"
    assert adapter.FidkitAnswerer(answerer)(question=UNSAID).answer is None
