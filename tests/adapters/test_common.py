"""What adapters give of passages and answers, and what they say without their framework."""

import importlib
import sys

import pytest

from fidkit.adapters.common import answered, in_words, of_answer, of_evidence, of_hit, passage_of
from fidkit.types import Answer, Evidence, Passage

from .conftest import GARDEN, QUESTION


def test_a_passage_that_was_found(corpus):
    [hit] = corpus.search("tea gardens of Kenya", 1)
    assert of_hit(hit, corpus) == {
        "id": "tea.md#1", "title": "Tea", "source": "tea.md:0-74", "document": "tea.md",
        "characters": [0, 74], "where": {"heading": "Tea"}, "score": hit.score,
    }  # fmt: skip


def test_a_passage_that_was_read(answerer):
    answer = answered(answerer, QUESTION, None, 3, (), 1)
    told = of_evidence(answer.evidence[0])
    assert told["source"], told["span"] == ("harbour.txt:0-84", [34, 47])
    assert told["sentence"] == "The harbour master of Ringsend is Aoife Brennan."
    assert told["without"]["answer"] != "Aoife Brennan"
    assert told["score"] == answer.evidence[0].score > 0.5
    assert "text" not in told


def test_passages_that_are_given_keep_their_places(answerer, corpus):
    """Found by somebody else in the same corpus, they say where they stand; others say nothing."""
    [hit] = corpus.search("largest garden", 1)
    given = [
        passage_of(1, hit.passage.text, of_hit(hit, corpus)),
        passage_of(2, "The garden of Ardgath is small.", {"source": "elsewhere.pdf"}),
    ]
    answer = answered(answerer, GARDEN, given, 1, (), 0)
    assert answer.text == "Wanjiru Kamau"
    told = {one["source"]: one for one in map(of_evidence, answer.evidence)}
    assert told["tea.md:0-74"]["where"] == {"heading": "Tea"}
    assert told["elsewhere.pdf"]["where"] == {}
    assert told["elsewhere.pdf"]["characters"] is None


def test_conditions_on_documents(answerer):
    answer = answered(answerer, QUESTION, None, 3, ["source=tea.md"], 0)
    assert [one.passage.source for one in answer.evidence] == ["tea.md:0-74"]


def test_a_passage_of_somebody_else():
    about = {"title": "Ledger", "source": "ledger.txt:5-9", "id": "known"}
    assert passage_of(7, "ink", about) == Passage("known", "Ledger", "ink", "ledger.txt:5-9")
    assert passage_of(7, "ink", about, "told") == Passage("told", "Ledger", "ink", "ledger.txt:5-9")
    assert passage_of(7, None, {"title": None}) == Passage("7", "", "")


def test_an_answer_that_is_withheld():
    answer = Answer("", -2.0, (Evidence(Passage("1", "", "ink"), 1.0),), guess="ink", confidence=0.1)
    told = of_answer(answer)
    assert (told["answer"], told["guess"], told["confidence"]) == (None, "ink", 0.1)
    assert not {"evidence", "reader", "question"} & set(told)
    assert in_words(answer) == "The documents don't seem to say."


@pytest.mark.parametrize(
    ("adapter", "package"),
    [
        ("haystack", "haystack"),
        ("langchain", "langchain_core"),
        ("llamaindex", "llama_index"),
        ("dspy", "dspy"),
    ],
)
def test_a_framework_that_is_not_installed(monkeypatch, adapter, package):
    for name in [one for one in sys.modules if one.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"fidkit.adapters.{adapter}", raising=False)
    with pytest.raises(ModuleNotFoundError, match=rf"needs {package}.*pip install 'fidkit\[{adapter}\]'"):
        importlib.import_module(f"fidkit.adapters.{adapter}")
