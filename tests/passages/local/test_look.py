"""A build looks before it takes the lock: what happens in between, and where files get another place."""

import os
import threading

import pytest

from fidkit.passages import Corpus
from fidkit.passages.local import build as building
from fidkit.passages.local.layout import CorpusBusyError, writer_lock


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in "bd":
        (folder / f"{name}.txt").write_text(f"The text of {name}.")
        os.utime(folder / f"{name}.txt", (1e9, 1e9))  # one that is just being written is noted anew anyway
    return folder


def texts(corpus):
    return [passage.text for passage in corpus]


def test_files_between_others_have_their_places(docs, tmp_path):
    Corpus.build(docs, tmp_path / "c").close()
    for name in "ac":
        (docs / f"{name}.txt").write_text(f"The text of {name}.")
    with Corpus.build(docs, tmp_path / "c") as corpus, Corpus.build(docs, tmp_path / "fresh") as fresh:
        assert texts(corpus) == texts(fresh) == [f"The text of {name}." for name in "abcd"]


def test_what_another_build_did_in_between_is_not_done_again(docs, tmp_path, monkeypatch):
    Corpus.build(docs, tmp_path / "c").close()
    (docs / "b.txt").write_text("The text of b, which is another now.")
    prepare, between = building.prepare, []

    def prepared(directory):
        if not between:
            between.append(directory)
            Corpus.build(docs, directory).close()
        prepare(directory)

    monkeypatch.setattr(building, "prepare", prepared)
    with Corpus.build(docs, tmp_path / "c") as corpus:
        assert texts(corpus) == ["The text of b, which is another now.", "The text of d."]
        assert corpus.report.files_read == 0


@pytest.mark.parametrize("moment", ["discover", "prepare"])
@pytest.mark.parametrize("is_first", [False, True])
def test_what_another_build_saw_later_is_not_forgotten(docs, tmp_path, monkeypatch, moment, is_first):
    """A build that is held up behind its look takes nothing out that came, and was read, meanwhile."""
    if not is_first:
        Corpus.build(docs, tmp_path / "c").close()
        (docs / "b.txt").unlink()
    looked, between = getattr(building, moment), []

    def held_up(given):
        found = looked(given)
        if not between:
            between.append(given)
            (docs / "e.txt").write_text("The text of e.")
            Corpus.build(docs, tmp_path / "c").close()
        return found

    monkeypatch.setattr(building, moment, held_up)
    with Corpus.build(docs, tmp_path / "c") as corpus:
        assert texts(corpus) == [f"The text of {name}." for name in ("bde" if is_first else "de")]


def test_what_changed_while_a_build_waited_is_read(docs, tmp_path):
    Corpus.build(docs, tmp_path / "c").close()
    (docs / "d.txt").unlink()
    release = threading.Event()

    def hold(held):
        with writer_lock(tmp_path / "c", 0.0):
            held.set()
            release.wait(10)

    def waiting():
        (docs / "b.txt").write_text("Written while somebody waited.")
        release.set()

    held = threading.Event()
    holder = threading.Thread(target=hold, args=(held,))
    holder.start()
    assert held.wait(10)
    with pytest.raises(CorpusBusyError):
        Corpus.build(docs, tmp_path / "c")
    with Corpus.build(docs, tmp_path / "c", wait=10, waiting=waiting) as corpus:
        assert texts(corpus) == ["Written while somebody waited."]
    holder.join()
