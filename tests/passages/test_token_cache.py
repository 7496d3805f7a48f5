import sqlite3
import threading

import pytest

from fidkit.passages import Corpus, TokenCache
from fidkit.types import Passage


class Tokenizer:
    """Counts the passages it was asked for."""

    def __init__(self, shift: int = 0) -> None:
        self.asked: list[str] = []
        self.shift = shift

    def __call__(self, passages: list[Passage]) -> list[list[int]]:
        self.asked += [passage.id for passage in passages]
        return [[ord(c) + self.shift for c in passage.title + passage.text] for passage in passages]


A, B = Passage("a", "A", "first"), Passage("b", "", "second 🍵")


def test_a_passage_is_tokenised_once_in_its_life(docs, tmp_path):
    corpus, tokenize = Corpus.build(docs, tmp_path / "c"), Tokenizer()
    passages = list(corpus)
    first = TokenCache(corpus.derived, "v1").get(passages, tokenize)
    with Corpus.open(tmp_path / "c") as again:
        assert TokenCache(again.derived, "v1").get(passages[::-1], tokenize) == first[::-1]
    assert tokenize.asked == [passage.id for passage in passages]
    assert first == Tokenizer()(passages)


def test_a_changed_passage_is_tokenised_again(docs, tmp_path):
    corpus, tokenize = Corpus.build(docs, tmp_path / "c"), Tokenizer()
    TokenCache(corpus.derived, "v1").get(list(corpus), tokenize)
    (docs / "coffee.txt").write_text("Coffee comes from Yemen.")
    corpus.refresh()
    passages = list(corpus)
    assert TokenCache(corpus.derived, "v1").get(passages, tokenize) == Tokenizer()(passages)
    assert tokenize.asked[3:] == ["coffee.txt#1"]


def test_tokenizers_do_not_share_entries(tmp_path):
    TokenCache(tmp_path, "one").get([A], Tokenizer())
    assert TokenCache(tmp_path, "two").get([A], Tokenizer(1)) == Tokenizer(1)([A])


def test_title_and_text_are_told_apart(tmp_path):
    cache = TokenCache(tmp_path, "k")
    split = [Passage("1", "ab", "c"), Passage("2", "a", "bc")]
    assert cache.get(split, lambda some: [[len(p.title)] for p in some]) == [[2], [1]]


@pytest.mark.parametrize("ids", [[], [0], [65535, 1], [65536], [2**31]])
def test_ids_of_every_size_come_back(tmp_path, ids):
    for _ in range(2):
        assert TokenCache(tmp_path, "k").get([A], lambda _: [ids]) == [ids]


def test_many_passages_and_repeated_ones(tmp_path):
    passages = [Passage(str(n), "", f"text {n % 1500}") for n in range(3000)]
    cache, tokenize = TokenCache(tmp_path, "k"), Tokenizer()
    assert cache.get(passages, tokenize) == cache.get(passages, tokenize) == Tokenizer()(passages)
    assert len(tokenize.asked) == 1500
    assert cache.get([], tokenize) == []


def test_several_threads(tmp_path):
    cache, failed = TokenCache(tmp_path, "k"), []

    def work(cache: TokenCache) -> None:
        for n in range(30):
            if cache.get([A, B, Passage("n", "", str(n))], Tokenizer()) != Tokenizer()(
                [A, B, Passage("", "", str(n))]
            ):
                failed.append(n)

    threads = [threading.Thread(target=work, args=(c,)) for c in (cache, cache, TokenCache(tmp_path, "k"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_a_cache_that_can_not_be_used_costs_nothing_but_time(tmp_path):
    (tmp_path / "tokens.sqlite").mkdir()
    assert TokenCache(tmp_path, "k").get([A], Tokenizer()) == Tokenizer()([A])
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "tokens.sqlite").write_text("no database, but long enough to look like one " * 10)
    assert TokenCache(tmp_path / "x", "k").get([A], Tokenizer()) == Tokenizer()([A])


def test_a_locked_cache_does_not_fail_the_question(tmp_path, monkeypatch):
    monkeypatch.setattr("fidkit.passages.token_cache._BUSY_SECONDS", 0.05)
    cache = TokenCache(tmp_path, "k")
    cache.get([A], Tokenizer())
    other = sqlite3.connect(tmp_path / "tokens.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert cache.get([A, B], Tokenizer()) == Tokenizer()([A, B])
    other.close()
