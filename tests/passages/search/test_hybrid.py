"""Both ways to search mixed: the mix is what it says, ties go by row, filters are exact."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidkit.passages.search.dense import Dense
from fidkit.passages.search.hybrid import Convex, Hybrid, Reciprocal, found_among
from fidkit.passages.search.lexical import Lexical, LexicalWriter
from fidkit.passages.search.vector_writer import VectorWriter
from fidkit.passages.search.ways import Part
from word_vectors import encoder, text

COUNT = 600
QUESTIONS = [text(3), text(250), "w1 w2 w3", "w5"]


class Whole(Lexical):
    """Ranks all that match: of many equal scores, tantivy gives others for another k."""

    def search(self, question: str, k: int) -> list[tuple[int, float]]:
        return super().search(question, COUNT)[:k]


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[Lexical, Dense]:
    folder: Path = tmp_path_factory.mktemp("hybrid")
    words, vectors = LexicalWriter(folder / "lexical-1"), VectorWriter(folder / "vectors-1", encoder())
    words.add((row, 1, "", text(row)) for row in range(COUNT))
    # Some are known by words alone.
    vectors.add((row, "", text(row)) for row in range(COUNT) if row % 50)
    words.finish()
    vectors.finish()
    return Whole(folder / "lexical-1"), Dense(folder / "vectors-1", encoder())


def by_the_book(both, question: str, weight: float, depth: int, allowed: set[int] | None) -> dict[int, float]:
    """Mixed scores of all candidates, from the whole ranking of each."""
    words, meaning = both

    def best(found):
        return [hit for hit in found if allowed is None or hit[0] in allowed][:depth]

    all_meaning = meaning.search_all([question], COUNT, candidates=COUNT)[0]
    top_words, top_meaning = best(words.search(question, COUNT)), best(all_meaning)
    rows = {row for row, _ in top_words} | {row for row, _ in top_meaning}
    of_words, of_meaning = dict(top_words), {row: s for row, s in all_meaning if row in rows}

    def share(scores: dict[int, float], row: int, full: bool) -> float:
        least, largest = min(scores.values()), max(scores.values())
        if not full and len(scores) < len(rows):  # the others match in nothing
            least = min(least, 0.0)
        return (scores[row] - least) / (largest - least) if largest > least else 1.0

    def mixed(row: int) -> float:
        by_words = share(of_words, row, len(top_words) == depth) if row in of_words else 0.0
        by_meaning = share(of_meaning, row, len(top_meaning) == depth) if row in of_meaning else 0.0
        return (1 - weight) * by_words + weight * by_meaning

    return {row: mixed(row) for row in rows}


@given(
    st.sampled_from(QUESTIONS), st.sampled_from([0.0, 0.3, 0.5, 1.0]), st.sampled_from([1, 20, 130]),
    st.none() | st.sets(st.integers(0, COUNT - 1), min_size=1),
)  # fmt: skip
def test_the_mix_of_normalised_scores(both, question, weight, k, rows):
    """Where a filter leaves few, each way still gives its best among those: filtering is exact."""
    allowed = None if rows is None else np.array(sorted(rows))
    # All of the vectors are candidates, so that the best by meaning are known here.
    words, meaning = both
    mixed = Hybrid(words, _Exhaustive(meaning), Convex(weight)).explain(question, k, allowed)
    wanted = by_the_book(both, question, weight, max(100, k), rows)
    assert [one.row for one in mixed] == sorted(wanted, key=lambda row: (-wanted[row], row))[:k]
    assert [one.score for one in mixed] == pytest.approx([wanted[one.row] for one in mixed])


class _Exhaustive:
    """Scores all, so that no candidate is lost to the scan."""

    def __init__(self, made: Dense) -> None:
        self._made, self.name, self.score, self.search = made, made.name, made.score, made.search

    def search_all(self, questions, k, allowed=None):
        return self._made.search_all(questions, k, allowed, candidates=COUNT)

    def __len__(self) -> int:
        return len(self._made)


def test_weights_at_the_ends_give_either_ranking(both):
    words, meaning = both
    for question in QUESTIONS[:2]:
        by_meaning = Hybrid(words, meaning, Convex(1.0)).search(question, 20)
        assert [row for row, _ in by_meaning] == [row for row, _ in meaning.search(question, 20)]
        by_words = Hybrid(words, meaning, Convex(0.0)).search(question, 20)
        assert [row for row, _ in by_words] == [row for row, _ in words.search(question, 20)]


def test_reciprocal_ranks(both):
    words, meaning = both
    question = QUESTIONS[0]
    top_words, top_meaning = words.search(question, 100), meaning.search(question, 100)
    wanted: dict[int, float] = {}
    for found in (top_words, top_meaning):
        for rank, (row, _) in enumerate(found, start=1):
            wanted[row] = wanted.get(row, 0) + 0.5 / (60 + rank)
    found = Hybrid(words, meaning, Reciprocal()).search(question, 50)
    assert [row for row, _ in found] == sorted(wanted, key=lambda row: (-wanted[row], row))[:50]
    assert [score for _, score in found] == pytest.approx([wanted[row] for row, _ in found])


def test_explained(both):
    words, meaning = both
    question = QUESTIONS[0]
    ranks = [{row: (n, s) for n, (row, s) in enumerate(e.search(question, 150), start=1)} for e in both]
    hybrid = Hybrid(words, meaning)
    assert hybrid.name == "lexical-1+vectors-1"
    assert len(hybrid) == COUNT
    found = hybrid.explain(question, 150)
    assert found[0].row == 3
    for one in found:
        assert one.score == pytest.approx((one.words.share + one.meaning.share) / 2)
        for part, (rank, score), scored in zip(
            (one.words, one.meaning),
            (of.get(one.row, (None, None)) for of in ranks),
            (None, meaning.score(question, [one.row])[0]),
            strict=True,
        ):
            assert part.rank == rank
            assert part.score == (score if score is not None else scored)
            assert 0 <= part.share <= 1
    only_words = [one for one in found if one.row % 50 == 0]
    assert only_words, "a passage without a vector can be found by its words"
    assert all(one.meaning == Part(None, None, 0.0) for one in only_words)


def test_scores_are_mixed_where_nobody_says_how(both):
    for question in QUESTIONS:
        assert Hybrid(*both).search(question, 30) == Hybrid(*both, Convex()).search(question, 30)


def test_several_questions_at_once(both):
    hybrid = Hybrid(*both)
    together = hybrid.search_all(QUESTIONS, 7)
    assert together == [hybrid.search(question, 7) for question in QUESTIONS]
    assert hybrid.search_all([], 7) == []


@pytest.mark.parametrize(
    ("scores", "full", "shares"),
    [
        ([], True, []),
        ([None, None], True, [0, 0]),
        ([4.0, 2.0, 3.0], True, [1, 0, 0.5]),
        ([4.0, 2.0, None], True, [1, 0, 0]),
        ([4.0, 2.0, None], False, [1, 0.5, 0]),
        ([4.0, 2.0], False, [1, 0]),
        ([4.0, -4.0, None], False, [1, 0, 0]),
        ([3.0], True, [1]),
        ([3.0, 3.0, None], True, [1, 1, 0]),
    ],
)
def test_shares(scores, full, shares):
    assert Convex().shares([None] * len(scores), scores, full) == shares


def test_a_filter_asks_for_more_until_enough_remain(both):
    words, _ = both
    everything = words.search("w1 w2 w3", COUNT)
    filters = ({row for row, _ in everything[-3:]}, {0}, {*range(COUNT)})
    for allowed, k in itertools.product(filters, (1, 2, 50)):
        wanted = [hit for hit in everything if hit[0] in allowed][:k]
        assert found_among(words, "w1 w2 w3", k, np.array(sorted(allowed))) == wanted


def test_no_more_is_asked_for_than_it_takes(both, monkeypatch):
    words, _ = both
    search, asked = words.search, []
    everything = words.search("w1 w2 w3", COUNT)
    monkeypatch.setattr(words, "search", lambda question, k: asked.append(k) or search(question, k))
    for allowed, k, wanted in ((range(COUNT), 20, [20]), ([everything[15][0]], 1, [1, 4, 16])):
        asked.clear()
        assert len(found_among(words, "w1 w2 w3", k, np.array(allowed))) == k
        assert asked == wanted
