"""The components in pipelines of Haystack."""

import importlib
import logging

import pytest

from fidkit.errors import UsageError

from .conftest import QUESTION, UNSAID

pytestmark = pytest.mark.adapters
MODULE = "fidkit.adapters.haystack"


@pytest.fixture(scope="module")
def haystack():
    return importlib.import_module("haystack")


@pytest.fixture(scope="module")
def adapter():
    from fidkit.adapters import haystack as made

    return made


def test_passages_are_found(adapter, corpus):
    [first, *others] = adapter.FidkitRetriever(corpus=corpus, top_k=2).run(QUESTION)["documents"]
    assert len(others) == 1
    assert (first.id, first.meta["source"]) == ("harbour.txt#1", "harbour.txt:0-84")
    assert first.meta["characters"] == [0, 84]
    assert first.score > others[0].score
    assert len(adapter.FidkitRetriever(corpus=corpus).run(QUESTION, top_k=1)["documents"]) == 1
    [tea] = adapter.FidkitRetriever(corpus=corpus, where=["source=tea.md"]).run(QUESTION)["documents"]
    assert tea.meta["where"] == {"heading": "Tea"}


def test_an_answer_with_its_evidence(adapter, answerer):
    [answer] = adapter.FidkitAnswerer(answerer=answerer, test_evidence=1).run(QUESTION)["answers"]
    assert (answer.data, answer.query, answer.meta["answer"]) == ("Aoife Brennan", QUESTION, "Aoife Brennan")
    [first, *_] = answer.documents
    assert (first.meta["source"], first.meta["span"]) == ("harbour.txt:0-84", [34, 47])
    assert first.meta["without"]["answer"] != "Aoife Brennan"
    assert first.content.startswith("The harbour master")
    assert sum(one.score for one in answer.documents) == pytest.approx(1)


def test_an_answer_that_is_withheld(adapter, answerer):
    [answer] = adapter.FidkitAnswerer(answerer=answerer).run(UNSAID)["answers"]
    assert answer.meta["answer"] is None
    assert answer.data == "The documents don't seem to say."
    assert answer.meta["guess"]


def test_a_pipeline_that_is_saved_and_closed(haystack, adapter, documents, caplog):
    """A retriever finds, and what it found is read; opened when it runs, once, and again after closing."""
    (documents / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing else")
    try:
        made = haystack.Pipeline()
        made.add_component("found", adapter.FidkitRetriever([str(documents)], top_k=1, where=["kind=txt"]))
        made.add_component("read", adapter.FidkitAnswerer([str(documents)]))
        made.connect("found.documents", "read.documents")
        again = haystack.Pipeline.loads(made.dumps(), allowed_modules=[MODULE])
        asked = {"found": {"query": QUESTION}, "read": {"query": QUESTION}}
        with caplog.at_level(logging.WARNING, MODULE):
            [answer] = again.run(asked)["read"]["answers"]
    finally:
        (documents / "broken.pdf").unlink()
    assert answer.data == "Aoife Brennan"
    assert [one.meta["source"] for one in answer.documents] == ["harbour.txt:0-84"]
    assert sum("1 of 4 files were left out" in record.message for record in caplog.records) == 2
    component = again.get_component("read")
    first = component.answerer
    assert again.run(asked)
    assert component.answerer is first
    again.close()
    with pytest.raises(UsageError, match="closed"):
        first.answer(QUESTION)
    assert again.run(asked)["read"]["answers"][0].data == "Aoife Brennan"
    again.close()


def test_what_was_given_open_stays_open_and_is_not_saved(adapter, answerer, corpus):
    for made in (adapter.FidkitAnswerer(answerer=answerer), adapter.FidkitRetriever(corpus=corpus)):
        made.close()
        assert made.run(QUESTION)
        with pytest.raises(UsageError, match=r"can't be saved; make it with documents"):
            made.to_dict()
