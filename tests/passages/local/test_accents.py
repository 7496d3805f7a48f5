"""Names with brackets, and accents that are characters of their own, as macOS writes them."""

from pathlib import Path

import pytest

from fidkit import Corpus, Filter

TWO, ONE = "cafe\u0301", "caf\u00e9"
"""One word, whose accent is a character of its own, and is part of its letter."""


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / f"{TWO}.txt").write_text("The re\u0301sume\u0301 names Ada.", encoding="utf-8")
    (docs / f"{ONE}s.txt").write_text("The owner is Berg.", encoding="utf-8")
    (docs / "[draft] lease.txt").write_text("The tenant is Cole.")
    (docs / "d lease.txt").write_text("The tenant is Dunn.")
    return Corpus.build(docs, tmp_path / "c")


def found(corpus: Corpus, question: str, where: Filter | None = None) -> list[str]:
    return [hit.passage.text for hit in corpus.search(question, 9, where=where)]


def test_brackets_of_a_filter_are_brackets_of_a_name(corpus):
    assert found(corpus, "tenant", Filter(source="[draft] lease.txt")) == ["The tenant is Cole."]
    assert found(corpus, "tenant", Filter(source="[draft]*")) == ["The tenant is Cole."]


@pytest.mark.parametrize("name", [TWO, ONE])
def test_a_filter_knows_a_name_however_its_accents_are_written(corpus, name):
    assert found(corpus, "names Ada", Filter(source=f"{name}.txt")) == ["The re\u0301sume\u0301 names Ada."]
    assert found(corpus, "owner", Filter(source=f"{name}s.txt")) == ["The owner is Berg."]


@pytest.mark.parametrize("name", [TWO, ONE])
def test_a_document_is_known_however_its_accents_are_written(corpus, name):
    assert corpus.document(f"{name}.txt").text.endswith("names Ada.")
    assert corpus.document(f"{name}s.txt").text == "The owner is Berg."
    assert corpus.place(f"{name}.txt:4-6").start == 4


@pytest.mark.parametrize("question", ["r\u00e9sum\u00e9", "re\u0301sume\u0301", "resume"])
def test_words_are_found_however_their_accents_are_written(corpus, question):
    assert found(corpus, question) == ["The re\u0301sume\u0301 names Ada."]
