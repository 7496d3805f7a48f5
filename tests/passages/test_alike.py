"""What says the same takes one place; what says something else never loses its own."""

from pathlib import Path

import pytest

from fidkit import Corpus
from fidkit.passages.alike import content_of
from fidkit.passages.local.catalogue import Catalogue
from fidkit.passages.search.lexical import Lexical
from fidkit.types import Passage

CLAUSE = (
    "The tenant pays a deposit of 1,500 pounds to Ada Lovelace on 1 March 2024, and the landlord may keep "
    "what is owed. The deposit is paid back within 14 days, at 2.5 % interest, if \u201cnothing is "
    "broken\u201d. The office \ufb01les it \u2014 always."
)


def content(text: str, title: str = "T") -> str:
    return content_of(Passage("1", title, text))


@pytest.mark.parametrize(
    ("before", "after"),
    [("1 March", "2 March"), ("Ada", "Ida"), ("may", "must"), ("14 days", "41 days"), ("2.5 %", "25 %"),
     ("1,500", "1.500"), ("pounds", "dollars"), ("nothing", "something"), ("2.5 %", "-2.5 %"),
     ("14", "1\u2074"), ("Ada", "ADA")],
)  # fmt: skip
def test_another_word_number_or_sign_is_another_passage(before: str, after: str) -> None:
    assert before in CLAUSE
    assert content(CLAUSE) != content(CLAUSE.replace(before, after, 1))


def test_white_space_and_typography_are_no_difference() -> None:
    other = CLAUSE.replace(" ", "\n", 3).replace(" on", "\u00a0 on").replace("\ufb01", "fi")
    other = other.replace("\u201c", '"').replace("\u201d", '"').replace("\u2014", "-")
    assert content(CLAUSE) == content(other.replace("tenant", "te\u00adnant"), "copy of T")
    assert content(CLAUSE, "Contract") == content(CLAUSE, "contract of lease (2)")
    assert content(CLAUSE, "Lease of 2023") != content(CLAUSE, "Lease of 2024")
    assert content("cafe\u0301") == content("caf\u00e9")
    assert content("Too short.", "North") != content("Too short.", "South")
    assert content("Too  short.", "North") == content("Too short.", " North")


@pytest.mark.parametrize(
    ("written", "plain"),
    [("\u2018\u2019\u201a\u201b\u2032", "'"), ("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
     ("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"), ("\ufb00", "ff"), ("\ufb01", "fi"),
     ("\ufb02", "fl"), ("\ufb03", "ffi"), ("\ufb04", "ffl"), ("\u2026", "..."), ("\u00ad\u200b\ufeff", "")],
)  # fmt: skip
def test_each_way_to_write_a_sign_is_the_same(written: str, plain: str) -> None:
    assert {content(f"of{sign}ten") for sign in written} == {content(f"of{plain}ten")}


def test_a_text_of_200_characters_says_the_same_under_any_title() -> None:
    assert content("x" * 200, "North") == content("x" * 200, "South")
    assert content("x" * 199, "North") != content("x" * 199, "South")


def test_numbers_of_a_title_count_where_they_number_no_copy() -> None:
    assert content(CLAUSE, "Part (1) of it") != content(CLAUSE, "Part (2) of it")
    assert content(CLAUSE, "Part 1, page 23") != content(CLAUSE, "Part 12, page 3")


def test_the_best_counts_and_names_the_others(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    texts = {"a": CLAUSE, "b": CLAUSE.replace(" ", "\n", 2), "c": CLAUSE.replace("14", "21")}
    for name, text in texts.items():
        (docs / f"{name}.txt").write_text(text)
    corpus = Corpus.build(docs, tmp_path / "c")
    first, other = corpus.explain("deposit of the tenant", 5)
    assert {first.hit.passage.source[0], other.hit.passage.source[0]} in ({"a", "c"}, {"b", "c"})
    of_group = first if first.alike else other
    assert {of_group.hit.passage.source[0], *(p.source[0] for p in of_group.alike)} == {"a", "b"}
    assert len(corpus.explain("deposit of the tenant", 1)) == 1
    assert corpus.count_alike() == (1, 2)
    (docs / "b.txt").unlink()
    corpus.refresh()
    assert corpus.count_alike() == (0, 0)
    assert len(corpus) == 2


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many hits each search by words was asked for."""
    asked: list[int] = []
    search = Lexical.search
    monkeypatch.setattr(
        Lexical, "search", lambda self, question, k: asked.append(k) or search(self, question, k)
    )
    return asked


def test_copies_leave_room_for_what_differs(
    tmp_path: Path, searched: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for number in range(8):
        (docs / f"copy ({number}).txt").write_text(CLAUSE)
    (docs / "other.txt").write_text(f"{CLAUSE} And so on, at some length, about much else.")
    corpus = Corpus.build(docs, tmp_path / "c")
    read: list[int] = []
    passages_if = Catalogue.passages_if
    monkeypatch.setattr(
        Catalogue, "passages_if", lambda self, name, rows: read.extend(rows) or passages_if(self, name, rows)
    )
    found = corpus.explain_all(["deposit of the tenant", "else"], 2, "words")
    assert [len(hits) for hits in found] == [2, 1]
    assert sorted(len(hit.alike) for hit in found[0]) == [0, 7]
    assert searched == [6, 6, 12]  # only where copies took the places of others, and twice as many
    assert sorted(read) == sorted(set(read))  # nothing is read twice
    assert len(read) == 9


@pytest.mark.parametrize(("k", "asked"), [(1, 5), (16, 20), (32, 40)])
def test_a_few_copies_cost_no_second_search(tmp_path: Path, searched: list[int], k: int, asked: int) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for number in range(40):
        (docs / f"{number}.txt").write_text(f"{CLAUSE} This is tenancy number {number}.")
    for number in range(4):
        (docs / f"5 ({number}).txt").write_text(f"{CLAUSE} This is tenancy number 5.")
    with Corpus.build(docs, tmp_path / "c") as corpus:
        found = corpus.explain("deposit of tenancy number 5", k, "words")
    assert (len(found), len(found[0].alike)) == (k, 4)
    assert searched == [asked]
