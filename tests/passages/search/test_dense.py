"""Search by meaning equals brute force on the vectors of 8 bits; the scan is exact; filters are, too."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidkit.engine.embedder import Embedder
from fidkit.errors import CorpusError
from fidkit.passages.search import dense, scan, vector_writer
from fidkit.passages.search.dense import Dense
from fidkit.passages.search.encoder import VectorEncoder
from fidkit.passages.search.vector_writer import VectorWriter
from fidkit.passages.search.vectors import Vectors
from word_vectors import DIMENSION, encoder, text

QUESTIONS = [text(number) for number in (3, 250, 999)] + ["w1 w2", "nothing"]
COUNT = 700


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    """Of several shards, with passages removed from each, and some of the same text."""
    folder = tmp_path_factory.mktemp("dense")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_writer, "_SHARD_ROWS", 128)
        writer = VectorWriter(folder / "vectors-1", encoder())
        writer.add((row, "", text(row % 600)) for row in reversed(range(COUNT)))
        writer.finish()
        writer = VectorWriter(folder / "vectors-2", encoder(), folder / "vectors-1")
        writer.remove(range(0, COUNT, 9))
        writer.add((row, "", text(row % 600)) for row in range(9, COUNT, 18))
        writer.finish()
    assert len(Vectors(folder / "vectors-2").shards) > 3
    return folder / "vectors-2"


ROWS = sorted({*range(COUNT)} - {*range(0, COUNT, 9)} | {*range(9, COUNT, 18)})


@cache
def every(directory: Path, question: str) -> list[tuple[int, int, float]]:
    """(bits that differ, row, score) of every passage, by the book."""
    [vector] = encoder().of_questions([question])
    found = []
    for shard in Vectors(directory).shards:
        for place in shard.live_places():
            number = shard.entries.vectors[place]
            product = number.astype(np.float64) @ vector.astype(np.float64) * shard.entries.scales[place]
            differ = int(((number > 0) != (vector > 0)).sum())
            found.append((differ, int(shard.entries.rows[place]), float(np.float32(product))))
    return found


def brute(directory: Path, question: str, k: int, rows: set[int] | None = None) -> list[tuple[int, float]]:
    """The best of all, or of some rows."""
    scored = [(row, score) for _, row, score in every(directory, question) if rows is None or row in rows]
    return sorted(scored, key=lambda hit: (-hit[1], hit[0]))[:k]


@pytest.mark.parametrize("block", [1, 64, 100_000])
def test_equals_brute_force_where_all_are_candidates(directory, block, monkeypatch):
    monkeypatch.setattr(scan, "_BLOCK", block if block > 1 else 97)
    made = Dense(directory, encoder())
    assert (made.name, len(made)) == ("vectors-2", len(ROWS))
    for k in (1, 7, COUNT):
        found = made.search_all(QUESTIONS, k, candidates=COUNT)
        assert found == [brute(directory, question, k) for question in QUESTIONS]
        assert found == [made.search_all([question], k, candidates=COUNT)[0] for question in QUESTIONS]


def nearest(directory: Path, question: str, most: int, rows: set[int]) -> set[int]:
    """The rows whose codes are nearest, equal ones by row."""
    near = sorted((differ, row) for differ, row, _ in every(directory, question) if row in rows)
    return {row for _, row in near[:most]}


@given(st.integers(1, 60), st.sampled_from([5, 33, 128, 10_000]), st.sets(st.sampled_from(ROWS), min_size=1))
def test_the_scan_is_exact_and_so_are_filters(directory, most, block, rows):
    """What is scored is what has the fewest bits that differ among the allowed, equal ones by row."""
    made = Dense(directory, encoder())
    mask = np.zeros(COUNT - 50, bool)
    mask[[row for row in rows if row < len(mask)]] = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_BLOCK", block)
        for allowed, inside in (
            (None, {*ROWS}),
            (np.array(sorted(rows)), rows),
            (mask, {row for row in rows if row < len(mask)}),
        ):
            for question in QUESTIONS[:3]:
                [found] = made.search_all([question], 1, allowed, candidates=most)
                wanted = nearest(directory, question, most, inside)
                assert found == brute(directory, question, 1, wanted)
                [found] = made.search_all([question], most, allowed, candidates=most)
                assert found == brute(directory, question, most, wanted)


def test_nothing_allowed_is_nothing_found(directory):
    made = Dense(directory, encoder())
    for nothing in (np.zeros(0, np.int64), np.zeros(COUNT, bool), np.array([0, 10 * COUNT])):
        assert made.search("w1", 5, nothing) == []
    assert made.search_all([], 5) == []


def test_equal_texts_score_the_same_and_come_by_row(directory):
    found = Dense(directory, encoder()).search(text(55), 2)
    assert [row for row, _ in found] == [55, 655]
    assert found[0][1] == found[1][1]


def test_scores_of_given_rows(directory):
    made = Dense(directory, encoder())
    rows = [9, 0, 650, 10_000, -1, 18, 1]
    scores = dict(brute(directory, QUESTIONS[0], COUNT))
    assert made.score(QUESTIONS[0], rows) == [scores.get(row) for row in rows]
    assert scores.keys() == {*ROWS}
    assert made.score(QUESTIONS[0], []) == []


def test_an_empty_state_finds_nothing(tmp_path):
    VectorWriter(tmp_path / "v", encoder()).finish()
    made = Dense(tmp_path / "v", encoder())
    assert (len(made), made.search("w1", 3), made.score("w1", [1])) == (0, [], [None])


def test_a_damaged_vector_is_refused_where_it_is_looked_at(tmp_path):
    writer = VectorWriter(tmp_path / "v", encoder())
    writer.add((row, "", text(row)) for row in range(300))
    writer.finish()
    [path] = (tmp_path / "v").glob("shard-*")
    data = bytearray(path.read_bytes())
    at = data.index(Vectors(tmp_path / "v").shards[0].entries.vectors[7].tobytes())
    data[at] ^= 1
    path.write_bytes(data)
    made = Dense(tmp_path / "v", encoder())
    with pytest.raises(CorpusError, match=f"{path.name}: .* checksum of 1 of the vectors"):
        made.search(text(7), 3)
    assert made.search(text(7), 3, np.array([8, 9]))


def test_questions_are_encoded_once(directory, monkeypatch):
    monkeypatch.setattr(dense, "_QUESTIONS_KEPT", 2)
    asked: list[str] = []
    plain = encoder()

    def questions(texts):
        asked.extend(texts)
        return plain.questions(texts)

    made = Dense(directory, VectorEncoder("words", "words", DIMENSION, plain.passages, questions))
    made.search_all(["w1", "w2", "w1"], 3)
    made.search("w1", 30)
    made.score("w1", [1])
    assert asked == ["w1", "w2"]
    made.search("w3", 3)
    made.search("w2", 3)
    assert asked == ["w1", "w2", "w3", "w2"]


def test_another_encoder_is_refused(directory):
    with pytest.raises(CorpusError, match="search with the encoder that made them"):
        Dense(directory, encoder(fingerprint="other"))


def test_with_the_encoder_that_comes_along(tmp_path):
    """A question finds the passage that answers it in other words; in any order, vectors are the same."""
    embedder = Embedder.open("minilm")
    minilm = VectorEncoder("minilm", embedder.fingerprint(), embedder.width, embedder.embed, embedder.embed)
    passages = [
        (1, "Cats", "A kitten drinks milk and sleeps most of the day."),
        (2, "Cars", "The engine of an automobile burns petrol."),
        (3, "Rivers", "The Nile flows through Egypt into the Mediterranean Sea, past Cairo and its delta."),
    ]
    for name, order in (("a", passages), ("b", passages[::-1])):
        writer = VectorWriter(tmp_path / name, minilm)
        for passage in order if name == "a" else [order]:
            writer.add([passage] if name == "a" else passage)
        writer.finish()
    made = Dense(tmp_path / "a", minilm)
    found = made.search_all(["What do young felines consume?", "which fuel do vehicles need"], 1)
    assert [hits[0][0] for hits in found] == [1, 2]
    [a], [b] = Vectors(tmp_path / "a").shards, Vectors(tmp_path / "b").shards
    assert a.path.name == b.path.name
    assert (a.entries.vectors == b.entries.vectors).all()
