import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fidkit.fusion import SEES, join
from fidkit.nn.attention import attend, attend_rows
from fidkit.nn.rows import Rows

lengths = st.lists(st.integers(0, 9), min_size=1, max_size=6)


def test_where_vectors_lie() -> None:
    rows = Rows(torch.tensor([2, 0, 3]))
    assert rows.starts.tolist() == [0, 2, 2, 5]
    assert rows.row_X.tolist() == [0, 0, 2, 2, 2]
    assert rows.position_X.tolist() == [0, 1, 0, 1, 2]
    assert rows.pack(torch.arange(12).view(3, 4)).tolist() == [0, 1, 8, 9, 10]


@given(lengths=lengths)
def test_blocks_hold_every_vector_once(lengths: list[int]) -> None:
    rows = Rows(torch.tensor(lengths))
    found = [block.vector_RS[block.mask_RS] for block in rows.blocks]
    assert sorted(torch.cat(found).tolist() if found else []) == list(range(sum(lengths)))


def test_rows_of_nearly_one_length_share_a_block() -> None:
    blocks = Rows(torch.tensor([100, 10, 79, 80, 9])).blocks
    assert [tuple(block.mask_RS.shape) for block in blocks] == [(2, 100), (1, 79), (2, 10)]


@given(lengths=lengths)
def test_rows_attend_to_themselves_alone(lengths: list[int]) -> None:
    rows, H, h = Rows(torch.tensor(lengths)), 2, 3
    q, k, v = (torch.randn(sum(lengths), H, h) for _ in range(3))
    bias = torch.randn(1, H, 9, 9)
    mixed = attend_rows(q, k, v, rows, bias)
    assert mixed.shape == q.shape
    for start, n in zip(rows.starts.tolist(), lengths, strict=False):
        if not n:
            continue
        one = [x[None, start : start + n].transpose(1, 2) for x in (q, k, v)]
        alone = attend(*one, bias[:, :, :n, :n])[0].transpose(0, 1)
        torch.testing.assert_close(mixed[start : start + n], alone)


@pytest.mark.parametrize(
    ("attention", "seen"),
    [
        ("passage-sees-question", [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]),
        ("question-sees-passage", [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]]),
        ("apart", [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]),
    ],
)
def test_who_sees_whom_in_a_row_of_two_question_and_two_passage_vectors(attention, seen) -> None:
    questions, passages = Rows(torch.tensor([2])), Rows(torch.tensor([2]))
    states = torch.zeros(2, 1)
    joined = join(states, questions, states, passages, torch.tensor([0]), attention)
    [block] = joined.rows.blocks
    assert block.seen_RSS.int().tolist() == [seen]
    hidden = (block.bias == 0).int().expand(1, 1, 4, 4)
    assert hidden[:, 0].tolist() == [seen]


def test_every_attention_has_its_sight() -> None:
    assert len(set(SEES.values())) == len(SEES) == 4
    rows = join(*[torch.zeros(1, 1), Rows(torch.tensor([1]))] * 2, torch.tensor([0])).rows
    assert rows.sides is None
    assert rows.blocks[0].seen_RSS is None


@given(lengths=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=5))
def test_rows_that_are_selected_keep_their_sides(lengths: list[tuple[int, int]]) -> None:
    asked, read = (torch.tensor(column) for column in zip(*lengths, strict=True))
    states = [torch.randn(int(column.sum()), 2) for column in (asked, read)]
    questions = torch.arange(len(lengths))
    joined = join(states[0], Rows(asked), states[1], Rows(read), questions, "apart")
    chosen = questions % 2 == 0
    some = joined.select(chosen)
    assert torch.equal(some.rows.sides.front_R, asked[chosen])
    assert torch.equal(some.rows.lengths, (asked + read)[chosen])
    assert torch.equal(some.states_XD, joined.states_XD[chosen[joined.rows.row_X]])
    assert torch.equal(some.question_R, questions[chosen])
