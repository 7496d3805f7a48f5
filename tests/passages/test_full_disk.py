"""A full disk is said with the room that is needed, costs nothing, and is made up for once there is room."""

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from disks import fill, mounted
from fidkit import database
from fidkit.disk import free_bytes
from fidkit.errors import CorpusError
from fidkit.passages import Corpus
from fidkit.passages.local import watch
from fidkit.passages.local.check import check
from fidkit.passages.opening import open_sources
from fidkit.passages.search.encoder import VectorEncoder

PASSAGES = 4_000
SAID = re.compile(r"c: the disk is full .* \((\d) MB free, about (\d) MB are needed\); free some space")


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "tmpfs", "size=24m") as disk:
        yield disk


@pytest.fixture
def rows(tmp_path, write_rows) -> Path:
    return write_rows(
        tmp_path / "in" / "rows.jsonl", ({"id": n, "text": f"tea {n}"} for n in range(PASSAGES))
    )


def encoder() -> VectorEncoder:
    """Of vectors that take some room."""

    def of(texts):
        vectors = np.zeros((len(texts), 384), np.float32)
        vectors[:, 0] = 1
        return vectors

    return VectorEncoder("wide", "wide", 384, of, of)


def test_vectors(small_disk, rows):
    where = small_disk / "c"
    with Corpus.build(rows, where, vectors=False) as corpus:
        filler = fill(small_disk, 1_200_000)
        with pytest.raises(CorpusError, match=SAID) as error:
            Corpus.build(rows, where, encoder=encoder, vectors=True)
        free, needed = map(int, SAID.search(str(error.value)).groups())
        assert (free, needed) == (1, 4)
        assert len(corpus) == PASSAGES
        assert corpus.search("tea 7", k=1)[0].passage.text == "tea 7"
        assert free_bytes(small_disk) > 1_000_000  # what was begun takes no room for ever
        filler.unlink()
        with Corpus.build(rows, where, encoder=encoder, vectors=True) as whole:
            assert whole.info().vectors["passages"] == PASSAGES
    assert check(where, encoder=encoder).faults == []


@pytest.fixture
def more(tmp_path, write_rows) -> Path:
    """A source beside others that takes more room than a full disk has."""
    many = ({"id": n, "text": " ".join(hex(n * k * 2654435761) for k in range(1, 60))} for n in range(2000))
    return write_rows(tmp_path / "docs" / "more.jsonl", many)


def test_a_folder_that_is_followed(small_disk, docs, monkeypatch):
    pytest.importorskip("watchfiles")
    for name, value in (("_TICK_SECONDS", 0.05), ("_FIRST_PAUSE_SECONDS", 0.1), ("SETTLED_SECONDS", 0.2)):
        monkeypatch.setattr(watch, name, value)
    corpus, news, stop = Corpus.build(docs, small_disk / "c"), [], threading.Event()
    filler = fill(small_disk, 100_000)

    def run():
        news.extend(watch.follow([docs], corpus.path, stop=stop))

    def soon(holds):
        until = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < until, news
            time.sleep(0.02)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        (docs / "new.txt").write_text("Mate comes from Paraguay. " * 30_000)
        soon(lambda: news)
        assert "the disk is full" in str(news[0])
        assert len(corpus) == len(corpus.search("comes from")) == 3
        time.sleep(0.5)
        assert len(news) == 1  # it is said once
        filler.unlink()
        soon(lambda: len(corpus) > 3)
        assert corpus.search("Paraguay")[0].passage.source.startswith("new.txt")
    finally:
        stop.set()
        thread.join(20)
    assert check(corpus.path).faults == []


def test_an_answer_from_the_state_before(small_disk, docs, request, monkeypatch):
    monkeypatch.setenv("FIDKIT_HOME", str(small_disk))
    open_sources(docs)[0].close()
    filler = fill(small_disk, 100_000)
    more = request.getfixturevalue("more")
    corpus, [note] = open_sources(docs)
    assert f"the index of {docs}, {corpus.path}: the disk is full" in note
    assert note.endswith("this is answered from their state before")
    assert len(corpus) == len(corpus.search("comes from")) == 3
    filler.unlink()
    assert len(open_sources(docs)[0]) == 2003
    fill(small_disk)
    other = more.parent.with_name("other")
    other.mkdir()
    (other / "a.txt").write_text("Tea comes from Assam.")
    with pytest.raises(CorpusError, match=f"the index of {other}.*(disk is full|No space left)"):
        open_sources(other)


def test_a_replica(small_disk, docs, url, request, monkeypatch):
    monkeypatch.setenv("FIDKIT_HOME", str(small_disk))
    Corpus.build(docs, url).close()
    filler = fill(small_disk, 100_000)
    request.getfixturevalue("more")
    with Corpus.build(docs, url) as corpus:
        [note] = corpus.notes
        assert re.search("the disk is full .* about [1-9] MB are needed", note)
        assert note.endswith(f"this is answered from change {corpus.generation}")
        assert len(corpus) == len(corpus.search("comes from")) == 3
        filler.unlink()
        corpus.refresh()
        assert len(corpus) == 2003
    assert check(corpus.path).faults == []


@pytest.mark.parametrize("at", ["its index", "its catalogue"])
def test_a_first_replica(small_disk, more, url, monkeypatch, at):
    Corpus.build(more, url).close()
    monkeypatch.setenv("FIDKIT_HOME", str(small_disk))
    if at == "its catalogue":  # is written to while passages are read, as that of many passages is
        monkeypatch.setattr(database, "_CACHE_KIB", 100)
    filler = fill(small_disk, 300_000)
    with pytest.raises(CorpusError, match=r"the disk is full .* about [1-9] MB are needed"):
        Corpus.open(url)
    filler.unlink()
    with Corpus.open(url) as corpus:
        assert len(corpus) == 2000
