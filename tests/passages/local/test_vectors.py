"""A corpus with vectors: kept up to date, seen whole, and searched by words, meaning or both."""

import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import word_vectors
from fidkit import Corpus
from fidkit.errors import CorpusError, UsageError
from fidkit.passages.local import builder
from fidkit.passages.local import vectors as local_vectors
from fidkit.passages.local.check import check

ENCODED: list[str] = []


def encoder(fingerprint: str = "words"):
    made = word_vectors.encoder(fingerprint=fingerprint)

    def passages(texts):
        ENCODED.extend(texts)
        return made.passages(texts)

    return type(made)(made.name, made.fingerprint, made.dimension, passages, made.questions)


@pytest.fixture
def docs(tmp_path: Path, monkeypatch) -> Path:
    # Words that were removed count in tantivy's scores until it is written anew: here it always is.
    monkeypatch.setattr(builder, "_PATCHED_SHARE", 0)
    ENCODED.clear()
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02}.md").write_text(word_vectors.text(number))
    return folder


def made(docs: Path, to: Path, **how) -> Corpus:
    return Corpus.build(docs, to, encoder=encoder, **how)


def found(corpus: Corpus, by=None) -> list:
    questions = [word_vectors.text(n) for n in (3, 7, 40)] + ["w1", "w9 w14"]
    return [[(h.passage.id, round(h.score, 4)) for h in corpus.search(q, 5, by)] for q in questions]


def test_incremental_is_fresh_and_encodes_what_is_new(docs: Path, tmp_path: Path) -> None:
    corpus = made(docs, tmp_path / "c")
    assert len(ENCODED) == 12
    (docs / "03.md").unlink()
    (docs / "05.md").write_text(word_vectors.text(50))
    (docs / "99.md").write_text(word_vectors.text(99))
    ENCODED.clear()
    assert corpus.refresh().files_read == 2
    assert len(ENCODED) == 2
    fresh = made(docs, tmp_path / "fresh")
    for by in ("meaning", "both", None):
        assert found(corpus, by) == found(fresh, by)
    assert corpus.info().vectors == {"encoder": "words", "dimension": 100, "passages": 12}
    assert corpus.info().sizes["vectors"] > 0
    assert len(list((tmp_path / "c").glob("vectors-*"))) == 1
    ENCODED.clear()
    assert corpus.refresh().files_read == 0
    assert not ENCODED


def test_each_way_finds_what_it_is_for(docs: Path, tmp_path: Path) -> None:
    corpus = made(docs, tmp_path / "c")
    question = "w3 nothing"
    by_words, by_meaning = (corpus.search(question, 12, by) for by in ("words", "meaning"))
    assert 0 < len(by_words) < len(by_meaning) == 12
    both = corpus.explain(question, 12)
    assert [e.hit for e in both] == corpus.search(question, 12, "both")
    words = {h.passage.id: (rank, h.score) for rank, h in enumerate(by_words, 1)}
    meaning = {h.passage.id: (rank, h.score) for rank, h in enumerate(by_meaning, 1)}
    for one in both:
        assert (one.words.rank, one.words.score) == words.get(one.hit.passage.id, (None, None))
        assert (one.meaning.rank, one.meaning.score) == meaning[one.hit.passage.id]
        assert one.hit.score == pytest.approx((one.words.share + one.meaning.share) / 2)
    [alone] = corpus.explain(question, 1, "meaning")
    assert (alone.words, alone.meaning.score) == (None, alone.hit.score)
    with pytest.raises(UsageError, match="expected one of words, meaning, both"):
        corpus.search("w1", 1, "sense")  # type: ignore[arg-type]


def test_who_gets_vectors(docs: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(local_vectors, "MOST_UNASKED", 11)
    corpus = made(docs, tmp_path / "c")
    assert corpus.info().vectors is None
    with pytest.raises(CorpusError, match=r"has no vectors; .*--vectors"):
        corpus.search("w1", 1, "meaning")
    assert made(docs, tmp_path / "c", vectors=True).info().vectors
    assert corpus.search("w1 nothing", 12)[-1].score < corpus.search("w1 nothing", 12)[0].score
    (docs / "new.md").write_text(word_vectors.text(77))
    assert made(docs, tmp_path / "c").info().vectors["passages"] == 13  # kept up to date
    assert made(docs, tmp_path / "c", vectors=False).info().vectors is None
    (docs / "00.md").unlink()
    (docs / "01.md").unlink()
    (docs / "02.md").unlink()
    assert made(docs, tmp_path / "c").info().vectors is None  # it stays known that none are wanted
    assert made(docs, tmp_path / "d").info().vectors
    with pytest.raises(UsageError, match="no encoder"):
        Corpus.build(docs, tmp_path / "e", vectors=True)


def test_without_an_encoder_vectors_never_stay_behind(docs: Path, tmp_path: Path, caplog) -> None:
    made(docs, tmp_path / "c").close()
    assert Corpus.build(docs, tmp_path / "c").info().vectors  # nothing changed
    (docs / "00.md").unlink()
    with caplog.at_level(logging.WARNING, "fidkit"):
        assert Corpus.build(docs, tmp_path / "c").info().vectors is None
    assert "vectors are left out" in caplog.text
    assert made(docs, tmp_path / "c").info().vectors["passages"] == 11


@pytest.mark.parametrize("harm", ["another", "missing", "damaged"])
def test_vectors_of_no_use_are_said_and_mended(docs: Path, tmp_path: Path, harm: str, caplog) -> None:
    made(docs, tmp_path / "c").close()
    now = encoder if harm != "another" else lambda: encoder("other")
    [directory] = (tmp_path / "c").glob("vectors-*")
    if harm == "missing":
        shutil.rmtree(directory)
    elif harm == "damaged":
        [shard] = directory.glob("shard-*")
        shard.write_bytes(shard.read_bytes()[:-3])
    with Corpus.open(tmp_path / "c", now) as corpus, caplog.at_level(logging.WARNING, "fidkit"):
        assert "--vectors" in corpus.vectors_fault()
        assert not caplog.text
        assert found(corpus) == found(corpus, "words")
        with pytest.raises(CorpusError, match="--vectors"):
            corpus.search("w1", 1, "both")
    with Corpus.open(tmp_path / "c", now) as corpus:
        found(corpus)
    assert caplog.text.count("--vectors") == 1
    if harm != "another":
        assert check(tmp_path / "c").faults
        assert check(tmp_path / "c", repair=True, encoder=now).mended
        assert not check(tmp_path / "c").faults
    with Corpus.build(docs, tmp_path / "c", encoder=now, vectors=True) as corpus:
        assert corpus.vectors_fault() == ""
        assert found(corpus, "both") == found(made(docs, tmp_path / "fresh"), "both")


def test_an_open_corpus_sees_words_and_vectors_of_one_state(docs: Path, tmp_path: Path, monkeypatch) -> None:
    corpus = made(docs, tmp_path / "c")
    before, seen = found(corpus), []
    monkeypatch.setattr(builder, "_COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(builder, "_COMMIT_SHARE", 0)

    def look(_) -> None:
        for reader in (corpus, Corpus.open(tmp_path / "c", encoder)):
            ids = {h.passage.id for h in reader.search("w1", 40, "meaning")}
            seen.append(ids == {p.id for p in reader})

    for number in range(12):
        (docs / f"{number:02}.md").write_text(word_vectors.text(number + 100))
    with made(docs, tmp_path / "c", progress=look):
        assert seen
        assert all(seen)
        assert found(corpus) != before
        assert found(corpus) == found(made(docs, tmp_path / "fresh"))


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
import word_vectors
from fidkit import Corpus
from fidkit.passages.search import vector_writer
vector_writer._BATCH, vector_writer._PART_ROWS = 4, 4
made, count = word_vectors.encoder(), 0
def encode(texts):
    global count
    count += len(texts)
    if count > 8:
        os.kill(os.getpid(), signal.SIGKILL)
    return made.passages(texts)
Corpus.build(sys.argv[1], sys.argv[2], encoder=lambda: type(made)("words", "words", 100, encode, encode))
"""


def test_a_kill_leaves_the_state_before_and_what_was_encoded(docs: Path, tmp_path: Path) -> None:
    corpus = made(docs, tmp_path / "c")
    before = found(corpus)
    for number in range(12):
        (docs / f"{number:02}.md").write_text(word_vectors.text(number + 200))
    command = [sys.executable, "-c", KILLED, str(docs), str(tmp_path / "c"), str(Path(__file__).parents[2])]
    done = subprocess.run(command, env={**os.environ}, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with Corpus.open(tmp_path / "c", encoder) as left:
        assert found(left) == before
    ENCODED.clear()
    corpus.refresh()
    assert len(ENCODED) == 4
    assert found(corpus) == found(made(docs, tmp_path / "fresh"))


@pytest.mark.parametrize(("many", "left"), [(11, 12), (12, None)])
def test_words_are_there_before_first_vectors_that_take_long(
    docs: Path, tmp_path: Path, monkeypatch, many: int, left: int | None
) -> None:
    monkeypatch.setattr(local_vectors, "_MANY", many)

    def interrupted():
        made = encoder()

        def passages(texts):
            raise KeyboardInterrupt

        return type(made)(made.name, made.fingerprint, made.dimension, passages, made.questions)

    with pytest.raises(KeyboardInterrupt):
        Corpus.build(docs, tmp_path / "c", encoder=interrupted, vectors=True)
    if left is None:
        with pytest.raises(CorpusError, match="never completed"):
            Corpus.open(tmp_path / "c")
        return
    with Corpus.open(tmp_path / "c", encoder) as corpus:
        assert (len(corpus), corpus.info().vectors) == (left, None)
        assert corpus.search(word_vectors.text(3), 1)[0].passage.text == word_vectors.text(3)
    with made(docs, tmp_path / "c", vectors=True) as corpus, made(docs, tmp_path / "fresh") as fresh:
        assert found(corpus) == found(fresh)
        assert not check(tmp_path / "c").faults


def test_finished_vectors_that_no_state_names_are_used_again(docs: Path, tmp_path: Path, monkeypatch) -> None:
    corpus = made(docs, tmp_path / "c")
    (docs / "new.md").write_text(word_vectors.text(300))

    def interrupted(*_) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(builder.Builder, "_commit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            corpus.refresh()
    ENCODED.clear()
    corpus.refresh()
    assert not ENCODED
    assert found(corpus) == found(made(docs, tmp_path / "fresh"))


def test_the_real_encoder_finds_what_says_the_same_in_other_words(tmp_path: Path) -> None:
    from fidkit.engine.meaning import minilm

    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Pets\n\nThe physician owns a small kitten.\n")
    (tmp_path / "docs" / "b.md").write_text("# Streets\n\nThe road to the harbour is closed on Mondays.\n")
    with Corpus.build(tmp_path / "docs", tmp_path / "c", encoder=minilm) as corpus:
        assert corpus.search("doctor with cat", 1, "words") == []
        assert corpus.search("doctor with cat", 1)[0].passage.title.startswith("Pets")


def test_passages_are_given_only_for_the_names_of_now(docs: Path, tmp_path: Path) -> None:
    catalogue = made(docs, tmp_path / "c")._catalogue
    for name in ("lexical-1", "vectors-1", "lexical-1+vectors-1"):
        assert catalogue.passages_if(name, [1])
    for name in ("lexical-0", "vectors-0", "lexical-1+vectors-0", "lexical-0+vectors-1"):
        assert catalogue.passages_if(name, [1]) is None
