"""How documents are cut is kept with a corpus, and changes all of it or nothing."""

import hashlib
import json
import logging
import sqlite3
from itertools import pairwise
from pathlib import Path

import pytest

from fidkit import Corpus
from fidkit.errors import CorpusError, UsageError
from fidkit.passages.load import table
from fidkit.passages.load.table import Loader
from fidkit.passages.local import builder, cuts


def sentences(first: int, count: int) -> str:
    return " ".join(f"Sentence {n} says that number {n} follows here." for n in range(first, first + count))


@pytest.fixture
def docs(tmp_path: Path, monkeypatch) -> Path:
    """A text that is read here, one that is read apart, and passages that were cut before."""
    monkeypatch.setitem(table.LOADERS, ".odd", Loader("document", "odd_loaders:read"))
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text(sentences(0, 60))
    (folder / "b.odd").write_text(f"several in.txt={sentences(100, 60)}")
    (folder / "p.jsonl").write_text('{"id": "p", "title": "T", "text": "As it is."}\n')
    return folder


def seen(corpus: Corpus) -> list:
    return sorted((p.id, p.title, p.text, p.source) for p in corpus)


def longest(corpus: Corpus) -> int:
    return max(len(passage.text.split()) for passage in corpus)


def test_a_change_reads_all_again_and_is_kept(docs: Path, tmp_path: Path, caplog) -> None:
    to = tmp_path / "c"
    with caplog.at_level(logging.INFO):
        assert longest(Corpus.build(docs, to)) > 64
        assert "another way" not in caplog.text
        corpus = Corpus.build(docs, to, passage_words=24, overlap=10)
        assert "all documents are read again" in caplog.text
    assert corpus.report.files_read == 2  # passages that were cut before stay as they are
    assert longest(corpus) <= 24 + 5 + 10
    info = corpus.info()
    assert (info.passage_words, info.overlap) == (24, 10)
    assert Corpus.build(docs, to).report.files_read == 0
    (docs / "a.txt").write_text(sentences(7, 50))
    assert corpus.refresh().files_read == 1
    fresh = Corpus.build(docs, tmp_path / "fresh", passage_words=24, overlap=10)
    assert seen(corpus) == seen(fresh)
    assert corpus.fingerprint == fresh.fingerprint
    assert Corpus.build(docs, to, overlap=0).info().passage_words == 24
    again = Corpus.build(docs, to, passage_words=100)
    assert seen(again) == seen(Corpus.build(docs, tmp_path / "default"))


def test_documents_are_read_again_once_fidkit_reads_them_otherwise(
    docs: Path, tmp_path: Path, monkeypatch, caplog
) -> None:
    to = tmp_path / "c"
    for number in range(2):
        (docs / f"c{number}.txt").write_text(sentences(1000 * number, 40))
    Corpus.build(docs, to, passage_words=30).close()
    monkeypatch.setattr(cuts, "LOADERS", cuts.LOADERS + 1)
    monkeypatch.setattr(builder, "_COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(builder, "_COMMIT_SHARE", 0)

    def stop(state) -> None:
        if state.stage == "read" and state.done_files == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), caplog.at_level(logging.INFO):
        Corpus.build(docs, to, stop)
    assert "documents are read in another way from now on: all documents are read again" in caplog.text
    rest = Corpus.build(docs, to)
    assert 0 < rest.report.files_read < 4  # passages that were cut before stay as they are
    assert rest.info().passage_words == 30
    assert Corpus.build(docs, to).report.files_read == 0


def test_documents_of_a_corpus_that_says_no_way_to_read_are_read_again(docs: Path, tmp_path: Path) -> None:
    to = tmp_path / "c"
    Corpus.build(docs, to).close()
    with sqlite3.connect(to / "catalogue.sqlite") as sql:
        assert sql.execute("DELETE FROM meta WHERE key = 'loaders'").rowcount == 1
    assert len(Corpus.open(to)) > 3
    assert Corpus.build(docs, to).report.files_read == 2
    assert Corpus.build(docs, to).report.files_read == 0


def test_what_documents_become_has_a_number(tmp_path: Path) -> None:
    documents = Path(__file__).parents[3] / "examples" / "own-folder" / "documents"
    with Corpus.build(documents, tmp_path / "c") as corpus:
        made = json.dumps(seen(corpus), ensure_ascii=False).encode()
    assert (cuts.LOADERS, hashlib.sha256(made).hexdigest()[:16]) == (2, "e78ad3823c37d789"), (
        "the same documents become other passages: if that is meant, raise LOADERS and note the new sum"
    )


def test_what_is_repeated_stands_where_it_says(docs: Path, tmp_path: Path) -> None:
    corpus = Corpus.build(docs, tmp_path / "c", passage_words=30, overlap=12)
    for name in ("a.txt", "b.odd/in.txt"):
        text, spans = corpus.document(name).text, []
        for passage in corpus:
            source, _, span = passage.source.rpartition(":")
            if source == name:
                start, end = map(int, span.split("-"))
                assert text[start:end] == passage.text
                spans.append((start, end))
        assert len(spans) > 5
        for before, after in pairwise(spans):
            repeated = text[after[0] : before[1]]
            assert 0 < len(repeated.split()) <= 12
            assert repeated.startswith("Sentence")
            assert after[1] > before[1]
    # A sentence in two passages gives both, since they say different things.
    hits = corpus.search("number 40 follows", 40, "words")
    assert len({hit.passage.text for hit in hits}) == len(hits)


def test_an_interrupted_change_goes_on(docs: Path, tmp_path: Path, monkeypatch) -> None:
    to = tmp_path / "c"
    for number in range(2):
        (docs / f"c{number}.txt").write_text(sentences(1000 * number, 40))
    Corpus.build(docs, to)
    monkeypatch.setattr(builder, "_COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(builder, "_COMMIT_SHARE", 0)

    def stop(state) -> None:
        if state.stage == "read" and state.done_files == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Corpus.build(docs, to, stop, passage_words=30)
    assert Corpus.open(to).info().passage_words == 30
    rest = Corpus.build(docs, to)
    assert 0 < rest.report.files_read < 4
    assert seen(rest) == seen(Corpus.build(docs, tmp_path / "fresh", passage_words=30))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"passage_words": 9}, "passages of 9 words can't be; expected 10 to 1,000"),
        ({"passage_words": 1001}, "expected 10 to 1,000"),
        ({"overlap": 100}, "an overlap of 100 words can't be; expected 0 to 99 for passages of 100"),
        ({"overlap": -1}, "expected 0 to 99"),
        ({"passage_words": 50, "overlap": 50}, "expected 0 to 49"),
        ({"passage_words": 50.5}, "50.5 is no number of words"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(docs: Path, tmp_path: Path, given, said) -> None:
    with pytest.raises(UsageError, match=said):
        Corpus.build(docs, tmp_path / "c", **given)
    assert not (tmp_path / "c").exists()
    corpus = Corpus.build(docs, tmp_path / "c", passage_words=200)
    before = corpus.generation
    if given == {"overlap": 100}:  # of the corpus' own passages
        assert Corpus.build(docs, tmp_path / "c", **given).info().overlap == 100
        return
    with pytest.raises(UsageError, match=said.replace("99", "199")):
        Corpus.build(docs, tmp_path / "c", **given)
    assert corpus.generation == before


def test_impossible_facts_are_damage(docs: Path, tmp_path: Path) -> None:
    Corpus.build(docs, tmp_path / "c").close()
    with sqlite3.connect(tmp_path / "c" / "catalogue.sqlite") as sql:
        sql.execute("INSERT OR REPLACE INTO meta VALUES ('passage_words', '3')")
    with pytest.raises(CorpusError, match="its catalogue is damaged"):
        Corpus.build(docs, tmp_path / "c")
