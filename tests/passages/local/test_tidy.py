"""Passages that were removed count in scores by words until the index is written anew."""

from pathlib import Path

import pytest

import word_vectors
from fidkit.passages import Corpus
from fidkit.passages.local import build as building
from fidkit.passages.local.catalogue import Catalogue
from fidkit.passages.local.layout import writer_lock

QUESTION = "where does the note about coffee come from"


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(20):
        (folder / f"note{number:02d}.txt").write_text(
            f"Note {number} about coffee comes from shelf {number}."
        )
    return folder


@pytest.fixture
def place(docs: Path, tmp_path: Path) -> Path:
    """Of a corpus of which a document was changed, and then refreshed."""
    with Corpus.build(docs, tmp_path / "corpus") as corpus:
        (docs / "note03.txt").write_text("Note 3 about coffee, coffee and coffee, is lost.")
        corpus.refresh()
    return tmp_path / "corpus"


def removed(place: Path) -> int:
    catalogue = Catalogue.for_reading(place)
    try:
        return int(catalogue.meta()["removed_since_fresh"])
    finally:
        catalogue.close()


def scores(corpus: Corpus) -> dict[str, float]:
    return {hit.passage.id: hit.score for hit in corpus.search(QUESTION, 30, "words")}


@pytest.mark.parametrize("more", [False, True], ids=["nothing new", "a change"])
def test_scores_after_a_build_are_those_of_a_fresh_one(
    docs: Path, place: Path, tmp_path: Path, more: bool
) -> None:
    assert removed(place) == 1
    if more:
        (docs / "note04.txt").unlink()
        (docs / "tea.txt").write_text("Tea comes from Kenya.")
    with Corpus.build(docs, tmp_path / "fresh") as fresh:
        expected = scores(fresh)
    with Corpus.open(place) as refreshed:
        assert scores(refreshed) != expected
    with Corpus.build(docs, place) as built:
        assert scores(built) == expected
        assert built.report is not None
        assert built.report.files_read == int(more)  # writing an index reads no file
    assert removed(place) == 0


def test_a_build_may_leave_the_index_as_it_is(docs: Path, place: Path) -> None:
    Corpus.build(docs, place, tidied=False).close()
    assert removed(place) == 1


def test_vectors_stay_with_their_passages(docs: Path, tmp_path: Path) -> None:
    with Corpus.build(docs, tmp_path / "corpus", encoder=word_vectors.encoder, vectors=True) as corpus:
        (docs / "note03.txt").write_text("Note 3 about tea is lost.")
        corpus.refresh()
        before = [(hit.passage.id, hit.score) for hit in corpus.search(QUESTION, 30, "meaning")]
    with Corpus.build(docs, tmp_path / "corpus", encoder=word_vectors.encoder) as built:
        assert [(hit.passage.id, hit.score) for hit in built.search(QUESTION, 30, "meaning")] == before
    assert removed(tmp_path / "corpus") == 0


def test_of_many_passages_a_share_has_to_be_gone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_TIDIED_PASSAGES", 19)
    for share, left in ((0.06, 1), (0.05, 0)):  # one is gone, twenty are there
        monkeypatch.setattr(building, "_TIDIED_SHARE", share)
        building.tidy(place)
        assert removed(place) == left


def test_it_is_left_to_a_process_that_builds(place: Path) -> None:
    with writer_lock(place):
        building.tidy(place)
    assert removed(place) == 1
