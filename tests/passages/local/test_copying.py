"""A corpus begun as a copy of another."""

import sqlite3

import pytest

from fidkit.errors import CorpusError
from fidkit.passages import Corpus
from fidkit.passages.local.copying import begin_as_copy
from fidkit.passages.local.layout import CorpusBusyError, writer_lock


@pytest.fixture
def built(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("tea", "mill", "harbour"):
        (docs / f"{name}.txt").write_text(f"All that is known of the {name}.")
    Corpus.build(docs, tmp_path / "corpus").close()
    return tmp_path


def test_a_copy_is_the_same_and_goes_its_own_way(built):
    begin_as_copy(built / "copy", built / "corpus")
    with Corpus.open(built / "copy") as copy, Corpus.open(built / "corpus") as corpus:
        assert copy.fingerprint == corpus.fingerprint
        assert copy.search("tea") == corpus.search("tea")
    more = built / "more"
    more.mkdir()
    (more / "light.txt").write_text("All that is known of the light.")
    with Corpus.build([built / "docs", more], built / "copy") as copy:
        assert copy.report.files_read == 1
        assert next(hit.passage.source for hit in copy.search("light")).startswith("light.txt")
    with Corpus.open(built / "corpus") as corpus, Corpus.build(built / "docs", built / "fresh") as fresh:
        assert corpus.fingerprint == fresh.fingerprint
        assert corpus.search("tea") == fresh.search("tea")


def test_what_is_there_stays(built):
    begin_as_copy(built / "copy", built / "none")
    assert not (built / "copy").exists()
    Corpus.build(built / "docs" / "tea.txt", built / "copy").close()
    with writer_lock(built / "copy"):  # whoever builds it isn't waited for
        begin_as_copy(built / "copy", built / "corpus")
    with Corpus.open(built / "copy") as copy:
        assert len(copy) == 1


def test_nobody_builds_meanwhile(built):
    with writer_lock(built / "corpus"), pytest.raises(CorpusBusyError):
        begin_as_copy(built / "copy", built / "corpus")
    assert not (built / "copy" / "catalogue.sqlite").exists()
    begin_as_copy(built / "copy", built / "corpus")  # what was begun is no hindrance


def test_of_a_damaged_one_there_is_no_copy(built):
    with sqlite3.connect(built / "corpus" / "catalogue.sqlite") as catalogue:
        catalogue.execute("DROP TABLE meta")
    with pytest.raises(CorpusError):
        begin_as_copy(built / "copy", built / "corpus")
    assert not (built / "copy" / "catalogue.sqlite").exists()
