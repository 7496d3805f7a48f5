"""Filters: exact in every way to search, against a search of everything that is filtered afterwards."""

import os
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

import word_vectors
from fidkit import Corpus, Filter
from fidkit.errors import CorpusError, UsageError
from fidkit.passages.filter import Described, kinds_of
from fidkit.passages.load import table
from fidkit.passages.load.table import Loader
from fidkit.passages.local import matching


@pytest.fixture
def docs(tmp_path: Path, monkeypatch) -> Path:
    """Forty texts of two kinds, and a file of two documents, last changed in four years."""
    monkeypatch.setitem(table.LOADERS, ".odd", Loader("document", "odd_loaders:read"))
    folder = tmp_path / "docs"
    for number in range(40):
        path = folder / ("left" if number % 3 else "right") / f"{number:02}.{'md' if number % 2 else 'txt'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        head = f"---\nauthor: Ada {number}\ndate: 2019-0{number % 9 + 1}-05\n---\n\n"
        path.write_text((head if number % 10 == 1 else "") + word_vectors.text(number))
        when = datetime(2020 + number % 4, 6, 15, 12).timestamp()
        os.utime(path, (when, when))
    members = "|".join(f"{n}.{'txt' if n % 2 else 'md'}={word_vectors.text(n)}" for n in range(40, 60))
    (folder / "box.odd").write_text(f"several {members}")
    os.utime(folder / "box.odd", (0, datetime(2015, 1, 1, 12).timestamp()))
    return folder


@pytest.fixture
def corpus(docs: Path, tmp_path: Path) -> Corpus:
    return Corpus.build(docs, tmp_path / "c", encoder=word_vectors.encoder)


def names(hits) -> set[str]:
    return {hit.passage.source.rsplit(":", 1)[0] for hit in hits}


def day(name: str) -> str:
    """Files 1, 11, 21 and 31 say it themselves."""
    if name.startswith("box"):
        return "2015-01-01"
    number = int(name[-6:-4] if name.endswith("txt") else name[-5:-3])
    return f"2019-0{number % 9 + 1}-05" if number % 10 == 1 else f"{2020 + number % 4}-06-15"


ALL = {
    Filter(source="left/*"): lambda name: name.startswith("left/"),
    Filter(source=("left/0?.md", "right/*")): lambda n: n.startswith("right") or fnmatchcase(n, "left/0?.md"),
    Filter(source="LEFT/*", kind="md"): None,
    Filter(kind="md"): lambda name: name.endswith(".md"),
    Filter(kind=(".TXT", "md"), source="box*"): lambda name: name.startswith("box"),
    Filter(kind="odd"): lambda name: name.startswith("box.odd/"),
    Filter(kind=("M?", ".o*")): lambda name: not name.endswith(".txt") or name.startswith("box.odd/"),
    Filter(source="box.odd/4*"): lambda name: name.startswith("box.odd/4"),
    Filter(after="2023-06-15"): lambda name: day(name) >= "2023-06-15",
    Filter(after="2023-06-16"): None,
    Filter(before="2019-03-05"): lambda name: day(name) < "2019-03-05",
    Filter(after="2019", before="2020-06-15"): lambda name: "2019" <= day(name) < "2020-06-15",
    Filter(facts={"Author": "ada 1?"}): lambda name: name == "left/11.md",
    Filter(facts=(("author", "ada 1"), ("author", "ada 31"))): lambda n: n in ("left/01.md", "left/31.md"),
}


@pytest.mark.parametrize("by", ["words", "meaning", "both"])
@pytest.mark.parametrize("large_share", [0.0, 1.1])
def test_what_is_left_is_ranked_and_scored_as_among_all(corpus, by, large_share, monkeypatch) -> None:
    monkeypatch.setattr(matching, "_LARGE_SHARE", large_share)
    question = " ".join(word_vectors.WORDS[::3])
    everything = corpus.search(question, 100, by)
    for typed in ("source=left/*", "kind=md", "source=box.odd/4*", "after=2022"):
        where = Filter.parse([typed])
        found = corpus.search(question, 5, by, where=where)
        kept = names(corpus.search(question, 100, by, where=where))
        if by == "both":  # its scores are of the candidates
            assert found
            assert names(found) <= kept
        else:
            expected = [hit for hit in everything if names([hit]) <= kept][:5]
            assert [hit.passage for hit in found] == [hit.passage for hit in expected]
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected])


@pytest.mark.parametrize("by", ["words", "meaning", "both"])
def test_each_condition_leaves_what_it_says(corpus, by) -> None:
    everyone = {passage.source.rsplit(":", 1)[0] for passage in corpus}
    for where, meets in ALL.items():
        if meets is None:
            with pytest.raises(CorpusError, match="no document has"):
                corpus.search("w1", 1, by, where=where)
            continue
        found = names(corpus.search(" ".join(word_vectors.WORDS), 100, by, where=where))
        assert found == {name for name in everyone if meets(name)}, where


def test_a_refresh_is_seen_and_dates_follow(corpus: Corpus, docs: Path) -> None:
    where = Filter(after="2040")
    with pytest.raises(CorpusError, match="has after=2040-01-01; their days are 2015-01-01 to 2023"):
        corpus.search("w1", where=where)
    when = datetime(2041, 1, 1).timestamp()
    os.utime(docs / "left" / "05.md", (when, when))
    corpus.refresh()  # nothing is read again, and the index stays
    assert names(corpus.search(" ".join(word_vectors.WORDS), 9, where=where)) == {"left/05.md"}
    (docs / "left" / "new.md").write_text("w1 w2 w3")
    corpus.refresh()
    assert "left/new.md" in names(corpus.search("w1 w2 w3", 9, where=Filter(source="left/n*")))
    (docs / "left" / "newer.md").write_text("w1 w2 w3")
    corpus.refresh()  # the same filter as before leaves more
    assert names(corpus.search("w1 w2 w3", 9, where=Filter(source="left/n*"))) == {
        "left/new.md",
        "left/newer.md",
    }


def test_more_filters_than_are_kept_are_each_applied(corpus: Corpus) -> None:
    for number in (*range(2 * matching._KEPT), 0):
        hits = corpus.search(
            " ".join(word_vectors.WORDS), 9, "words", where=Filter(source=f"*/{number:02}.*")
        )
        assert {Path(name).stem for name in names(hits)} == {f"{number:02}"}


def test_a_document_without_a_day_is_neither_before_nor_after_one(docs: Path, tmp_path: Path) -> None:
    gone = docs / "left" / "gone.txt"
    gone.write_text("w1 w2")  # just now, so the catalogue has no time of it
    corpus = Corpus.build(docs, tmp_path / "c", encoder=word_vectors.encoder)
    gone.unlink()
    for where in (Filter(before="2100"), Filter(after="1970")):
        assert "left/gone.txt" not in names(corpus.search("w1 w2", 100, "words", where=where))
    assert "left/gone.txt" in names(corpus.search("w1 w2", 100, "words", where=Filter(kind="txt")))


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("source=up/*", r"no document has source=up/\*; names are box.odd/40.md, .* and 52 more"),
        ("kind=pdf", "no document has kind=.pdf; kinds are .md, .odd, .txt"),
        ("author=grace", "no document has author=grace; author is Ada 1, Ada 11"),
        ("editor=ada", "no document has editor=ada; they say author, date of themselves"),
        ("kidn=md", r"no document has kidn=md; did you mean kind\?"),
        ("autor=ada", r"no document has autor=ada; did you mean author\?"),
    ],
)
def test_what_there_is_is_said_where_nothing_is_left(corpus: Corpus, condition: str, said: str) -> None:
    with pytest.raises(CorpusError, match=said):
        corpus.search("w1", where=Filter.parse([condition]))
    with pytest.raises(CorpusError, match=r"no document has all of source=right/00\.txt kind=\.md; leave"):
        corpus.search("w1", where=Filter.parse(["source=right/00.txt", "kind=md"]))


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        (["pdf"], "'pdf' is no condition; expected NAME=VALUE"),
        (["kind="], "is no condition"),
        (["after=soon"], "after is 'soon'; expected a day such as 2024-01-31"),
        (["after=2024-13"], "expected a day"),
        (["after=20245"], "expected a day"),
        (["before=2024", "before=2025"], "before is given as 2024 and 2025; expected one day"),
    ],
)
def test_what_is_no_condition_is_said(conditions: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Filter.parse(conditions)


def test_typed_is_as_given() -> None:
    typed = Filter.parse(["source=a/*", "KIND=PDF", "after=2024-02", "Author=Ada", "source=b"])
    assert typed == Filter(("a/*", "b"), ("pdf",), "2024-02-01", facts={"author": "Ada"})
    assert str(typed) == "source=a/* source=b kind=.pdf after=2024-02-01 author=Ada"
    assert Filter.parse([]) is None
    assert Filter.parse(str(typed).split()) == typed
    with pytest.raises(UsageError, match="empty value"):
        Filter(kind="")


def test_what_is_packed_is_also_of_the_kind_that_it_packs() -> None:
    mail = Described("box.mbox.gz/letter.pdf", "box.mbox.gz", "", {})
    assert kinds_of(mail) == {".pdf", ".mbox", ".mbox.gz"}
    assert Filter(kind="mbox").test()(mail)


@pytest.mark.parametrize("by", ["words", "meaning", "both", None])
def test_several_questions_find_what_each_does(corpus: Corpus, by) -> None:
    questions = [word_vectors.text(number) for number in (3, 50, 17, 3)] + ["w1 w2"]
    where = Filter(kind="md")
    for chosen in (None, where):
        every = corpus.search_all(questions, 4, by, where=chosen)
        assert every == [corpus.search(question, 4, by, where=chosen) for question in questions]
    assert corpus.search_all([], 4, by) == []
    with pytest.raises(UsageError, match="one string; expected a list"):
        corpus.search_all("w1", 4, by)
    with pytest.raises(UsageError, match="the question is empty"):
        corpus.search_all(["w1", " "], 4, by)


def test_a_star_is_met_by_documents_that_say_something(corpus: Corpus) -> None:
    said = names(corpus.search("cat harbour tea kitten", 60, where=Filter(facts={"author": "*"})))
    assert said
    assert all(int(Path(name).stem) % 10 == 1 for name in said)
    with pytest.raises(CorpusError, match="foo"):
        corpus.search("cat", 60, where=Filter(facts={"foo": "*"}))


def texts_found(corpus: Corpus, question: str, where: Filter) -> list[str]:
    return [hit.passage.text for hit in corpus.search(question, 9, where=where)]


def test_brackets_of_a_filter_are_brackets_of_a_name(accented):
    assert texts_found(accented, "tenant", Filter(source="[draft] lease.txt")) == ["The tenant is Cole."]
    assert texts_found(accented, "tenant", Filter(source="[draft]*")) == ["The tenant is Cole."]


@pytest.mark.parametrize("name", ["cafe\u0301", "caf\u00e9"])
def test_a_filter_knows_a_name_however_its_accents_are_written(accented, name):
    assert texts_found(accented, "Ada", Filter(source=f"{name}.txt")) == ["The re\u0301sume\u0301 names Ada."]
    assert texts_found(accented, "owner", Filter(source=f"{name}s.txt")) == ["The owner is Berg."]
