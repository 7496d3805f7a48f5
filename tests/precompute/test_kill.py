"""What is left of a memory when its build is killed, and that the next build makes up for it."""

import memory_kill
import pytest

from precompute.conftest import texts


@pytest.mark.slow
@pytest.mark.parametrize(("count", "workers"), [(2, 1), (30, 1), (10, 2)])
def test_kill_at_random_moments(make_corpus, reader_directory, tmp_path, count, workers):
    corpus, work = make_corpus(texts(1400)), tmp_path / "work"
    work.mkdir()
    row = memory_kill.trial(corpus, str(reader_directory), work, count, seed=count, workers=workers)
    assert row["shards"] >= 3
    assert row["resumed"] == "equals an undisturbed build"
    assert not [outcome for outcome in row["outcomes"] if "bad" in outcome], row
