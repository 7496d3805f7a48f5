import shutil

import pytest

from fidkit.errors import CorpusError
from fidkit.memory import MemoryStore
from fidkit.passages import Corpus
from fidkit.passages.token_cache import passage_key
from fidkit.types import Passage
from memory.toy import key, row


@pytest.fixture
def docs(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "tea.txt").write_text("Tea comes from China.")
    return tmp_path / "docs"


def test_a_corpus_is_built_around_a_memory_and_leaves_it_alone(build, docs):
    corpus = build(range(5))
    Corpus.build(docs, corpus).close()
    (docs / "new.txt").write_text("Coffee comes from Ethiopia.")
    with Corpus.build(docs, corpus) as again:
        assert len(again) == 2
    with MemoryStore.open(corpus) as store:
        assert store.check() == []
        assert store.get([key(4)])[0].equal(row(4))


def test_other_things_are_still_no_part_of_a_corpus(build, docs):
    corpus = build(range(5))
    (corpus / "memory-2").mkdir()
    with pytest.raises(CorpusError, match="holds 'memory-2'"):
        Corpus.build(docs, corpus)
    shutil.rmtree(corpus / "memory-2")
    Corpus.build(docs, corpus).close()


def test_a_key_stands_for_title_and_text_and_nothing_else():
    passage = Passage("a", "Tea", "comes from China", "tea.txt:0-20")
    assert len(passage_key(passage)) == 16
    assert passage_key(passage) == passage_key(Passage("b", "Tea", "comes from China"))
    others = [Passage("a", "Te", "acomes from China"), Passage("a", "Tea", "comes."), Passage("a", "", "")]
    assert len({passage_key(other) for other in (passage, *others)}) == 4
    # It is written in memories and caches: it may not change.
    assert passage_key(passage).hex() == "0c64dc74c046266b1208823f20c04658"
