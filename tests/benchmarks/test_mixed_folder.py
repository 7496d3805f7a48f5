"""The check of a mixed folder: it finds what is right, and says what isn't."""

import random
from pathlib import Path

import mixed_folder
import pytest
from mixed.files import by_delimiter
from mixed.prose import Piece, facts

FACTS = facts(3, seed=7)
PIECE = Piece("Of the sea", (("1 Waves", ("The sea was calm. The wind was not.", "Nobody came here.")),) * 4)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A text and a table with a fact each, and a file that nothing reads."""
    folder = tmp_path / "docs"
    (folder / "tables").mkdir(parents=True)
    (folder / "a.txt").write_text(PIECE.with_fact(FACTS[0], 1).text())
    (folder / "b.bin").write_bytes(bytes(10))
    _, where = by_delimiter(",")(folder / "tables" / "c.csv", PIECE, FACTS[1], random.Random(3))
    assert where == {"row": "28"}
    record, faults = mixed_folder.built(folder, tmp_path / "corpus")
    assert faults == []
    assert (record["files"], record["files_read"], record["documents"]) == (3, 2, 2)
    assert record["left_out"] == {"not a kind of file that is read": 1}
    assert record["peak_bytes"] > 10e6
    return tmp_path / "corpus"


def truth(number: int, source: str, **where: str) -> dict:
    fact = FACTS[number]
    return {"question": fact.question, "sentence": fact.sentence, "source": source, "where": where}


def test_what_is_right_and_what_is_not(corpus: Path) -> None:
    assert mixed_folder.search(corpus, truth(0, "a.txt")) == ("", 1)
    assert mixed_folder.search(corpus, truth(1, "tables/c.csv", row="28")) == ("", 1)
    for other, said in (
        (truth(1, "tables/c.csv", row="29"), "stands at {'row': '28'}, expected {'row': '29'}"),
        (truth(1, "c.csv", row="28"), "found in tables/c.csv"),
        (truth(2, "a.txt"), "not among 20 passages"),
    ):
        assert said in mixed_folder.search(corpus, other)[0]


def test_evidence_of_other_characters_is_said(corpus: Path) -> None:
    fact = truth(0, "a.txt")
    text = mixed_folder.shown("a.txt", corpus)["text"]
    start = text.index(fact["sentence"])
    end = start + len(fact["sentence"])
    piece = {"text": text, "where": {}, "sentence": fact["sentence"], "span": [start, start + 3]}
    whole = {**piece, "source": f"a.txt:0-{len(text)}"}
    assert mixed_folder.evidence(corpus, fact, [whole]) == ""
    assert "not the answer" in mixed_folder.evidence(corpus, fact, [{**whole, "span": [0, 10]}])
    assert "don't hold" in mixed_folder.evidence(corpus, fact, [{**piece, "source": f"a.txt:0-{end - 1}"}])
    assert "in none of 0 passages" in mixed_folder.evidence(corpus, fact, [])
