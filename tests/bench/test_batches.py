"""Rows in sorted sub-batches, and back to the states of questions."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.toy import CPU, RAGGED
from fidkit.bench.batches import SortedRows, pad_rows, sorted_places
from fidkit.bench.questions import Questions
from oracles import quick, tokens


def questions(most: int = 4) -> st.SearchStrategy[Questions]:
    def of_size(passages: int):
        one = st.tuples(tokens(), st.lists(tokens(), min_size=passages, max_size=passages))
        return st.lists(one, min_size=1, max_size=3).map(
            lambda drawn: Questions([question for question, _ in drawn], [found for _, found in drawn])
        )

    return st.integers(1, most).flatmap(of_size)


@quick
@given(questions(), st.integers(1, 13))
def test_fused_states_are_those_of_all_rows_in_their_order(asked: Questions, size: int) -> None:
    rows = SortedRows(asked, size, 0, CPU)
    # A state that says which token it is of.
    fused_BMD = rows.fuse(batch.ids[..., None].float() for batch in rows.batches)
    each = len(asked.passages[0])
    for question in range(len(asked.questions)):
        expected = [token for row in asked.rows[question * each :][:each] for token in row]
        there = rows.mask_BM[question].bool()
        assert fused_BMD[question, there, 0].tolist() == expected
        assert not fused_BMD[question, ~there].any()
    assert rows.even == bool(rows.mask_BM.all())


@quick
@given(questions(), st.integers(1, 13))
def test_sub_batches_hold_every_row_once_longest_first(asked: Questions, size: int) -> None:
    rows = SortedRows(asked, size, 0, CPU)
    lengths = []
    for batch in rows.batches:
        assert 1 <= len(batch.rows) <= size
        found = batch.mask.sum(1).tolist()
        assert found == [len(asked.rows[place]) for place in batch.rows]
        assert batch.padded == (len(set(found)) > 1)
        lengths += found
    assert lengths == sorted(map(len, asked.rows), reverse=True)
    assert len({place for batch in rows.batches for place in batch.rows}) == len(asked.rows)


def test_sorted_rows_compute_less_padding() -> None:
    padded = [SortedRows(RAGGED, size, 0, CPU).padded_tokens for size in (1, 2, 6)]
    assert padded[0] == sum(map(len, RAGGED.rows))
    assert padded == sorted(padded)
    assert padded[-1] == 6 * 9


def test_rows_are_padded_to_the_longest() -> None:
    ids, mask = pad_rows([[5, 6], [7]], 0, CPU)
    assert ids.tolist() == [[5, 6], [7, 0]]
    assert mask.tolist() == [[1, 1], [1, 0]]


def test_rows_of_one_length_stay_in_order() -> None:
    assert sorted_places([3, 5, 3, 5], 3) == [[1, 3, 0], [2]]
    assert torch.equal(SortedRows(RAGGED, 6, 0, CPU).mask_BM.sum(1), torch.tensor([19, 15]))
