"""Attention by hand is attention by autograd: values, gradients, dropout's bookkeeping."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fidkit.nn import rows as of_rows
from fidkit.nn.attention import attend
from fidkit.nn.row_training import attend_rows_by_hand
from fidkit.nn.rows import Rows, who_sees
from fidkit.rows import Sides

H, h, LONGEST = 2, 3, 9
lengths = st.lists(st.integers(0, LONGEST), min_size=1, max_size=6)


def inputs(vectors: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Queries, keys, values and the bias of all rows."""
    made = [torch.randn(vectors, H, h).to(dtype) for _ in range(3)]
    return [x.requires_grad_() for x in (*made, torch.randn(1, H, LONGEST, LONGEST))]


def one_by_one(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, rows: Rows, sides: Sides | None) -> Tensor:
    """The same by autograd, a row at a time."""
    mixed = []
    for number, n in enumerate(rows.lengths.tolist()):
        start = int(rows.starts[number])
        own = [x[None, start : start + n].transpose(1, 2) for x in (q, k, v)]
        of_row = bias[:, :, :n, :n]
        if sides is not None:
            seen = who_sees(sides, torch.tensor([number]), torch.arange(n)[None])
            of_row = of_row.masked_fill(~seen[:, None], -1e9)
        if n:
            mixed.append(attend(*own, of_row)[0].transpose(0, 1))
    return torch.cat(mixed) if mixed else q


@given(lengths=lengths, pairs=st.sampled_from([1, 50, 2**16]), apart=st.booleans())
def test_values_and_gradients_are_autograd_s(lengths: list[int], pairs: int, apart: bool) -> None:
    of = torch.tensor(lengths)
    sides = Sides(of // 2, front_sees=False, behind_sees=True) if apart else None
    rows, given_ = Rows(of, sides), inputs(sum(lengths))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_rows, "_FEW_PAIRS", pairs)
        mixed = attend_rows_by_hand(*given_[:3], rows, given_[3], 0.0)
    wanted = one_by_one(*given_, rows, sides)
    torch.testing.assert_close(mixed, wanted)
    if sum(lengths):
        direction = torch.randn_like(mixed)
        found, expected = (torch.autograd.grad(y, given_, direction) for y in (mixed, wanted))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_gradients_are_finite_differences_with_dropout_too() -> None:
    rows = Rows(torch.tensor([3, 4]))
    q, k, v, bias = (x.detach().double().requires_grad_() for x in inputs(7))

    def run(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        torch.manual_seed(3)  # the same decisions every time
        return attend_rows_by_hand(q, k, v, rows, bias, 0.4)

    assert torch.autograd.gradcheck(run, (q, k, v, bias))


def test_dropout_drops_whole_weights_and_keeps_the_mean() -> None:
    rows, vectors = Rows(torch.tensor([4] * 500)), 2000
    q = torch.zeros(vectors, H, h, requires_grad=True)
    v = torch.ones(vectors, H, h)
    mixed = attend_rows_by_hand(q, q, v, rows, torch.zeros(1, H, 4, 4), 0.25)
    kept = (mixed * 4 * 0.75)[..., 0]  # of four equal weights
    torch.testing.assert_close(kept, kept.round())
    assert mixed.mean().item() == pytest.approx(1, abs=0.03)


def test_small_blocks_hold_few_pairs_and_every_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_rows, "_FEW_PAIRS", 200)
    rows = Rows(torch.tensor([9, 9, 9, 9, 20, 0, 3]))
    shapes = [tuple(block.mask_RS.shape) for block in rows.small_blocks]
    assert shapes == [(1, 20), (2, 9), (2, 9), (1, 3)]
    found = torch.cat([block.vector_RS[block.mask_RS] for block in rows.small_blocks])
    assert sorted(found.tolist()) == list(range(59))
