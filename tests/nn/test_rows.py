import torch
from hypothesis import given
from hypothesis import strategies as st

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
