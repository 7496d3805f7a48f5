import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fidkit.errors import FidkitError, UsageError
from oracles import batch_of, questions, quick, random_reader, small

HEADS = st.sampled_from([1, 2, 4])


def repeated(examples, beams: int):
    return [one for one in examples for _ in range(beams)]


@quick
@given(examples=questions(), beams=st.integers(1, 4), own=HEADS, cross=HEADS, every=st.integers(1, 2))
@torch.no_grad()
def test_rows_of_a_question_are_the_question_asked_so_often(
    examples, beams: int, own: int, cross: int, every: int
) -> None:
    """Also after rows went on from other rows of their question."""
    reader = random_reader(small(self_kv_heads=own, cross_kv_heads=cross, cross_attention_every=every))
    shared = reader.start(reader.read(batch_of(examples)), 4, beams)
    apart = reader.start(reader.read(batch_of(repeated(examples, beams))), 4)
    N = len(examples) * beams
    generator = torch.Generator().manual_seed(N)
    for _ in range(4):
        ids = torch.randint(2, 37, (N,), generator=generator)
        torch.testing.assert_close(reader.step(ids, shared), reader.step(ids, apart), atol=1e-5, rtol=1e-4)
        rows = torch.randint(beams, (N,), generator=generator) + torch.arange(N) // beams * beams
        shared.select(rows)
        apart.self_keys, apart.self_values = apart.self_keys[:, rows], apart.self_values[:, rows]


def test_a_row_goes_on_from_what_another_has_written() -> None:
    reader = random_reader(small())
    cache = reader.start(reader.read(batch_of([([3], [[4]], [1])])), 3, 2)
    keys = cache.self_keys
    with torch.no_grad():
        reader.step(torch.tensor([5, 6]), cache)
    second = cache.self_keys[:, 1].clone()
    cache.select(torch.tensor([1, 1]))
    assert torch.equal(cache.self_keys[:, 0], second)
    assert torch.equal(cache.self_keys[:, 1], second)
    assert cache.self_keys is keys  # in place


@pytest.mark.parametrize("most", [1, 3])
def test_writing_beyond_the_cache_is_refused(most: int) -> None:
    reader = random_reader(small())
    cache = reader.start(reader.read(batch_of([([3], [[4]], [1])])), most)
    with torch.no_grad():
        for _ in range(most):
            reader.step(torch.tensor([5]), cache)
        with pytest.raises(UsageError, match=f"made for {most} tokens .* max_tokens={most + 1} or more"):
            reader.step(torch.tensor([5]), cache)


def test_beams_that_do_not_fit_are_refused() -> None:
    reader = random_reader(small())
    context = reader.read(batch_of([([3], [[4]], [1])] * 2))
    with pytest.raises(FidkitError, match=r"no room .* of 2000000000000 rows .* GB; take fewer questions"):
        reader.start(context, 32, 10**12)
