"""The encoder for GPUs is the plain one, with either way to attend within rows."""

import logging
from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounter
from torch.nn.attention.flex_attention import create_block_mask

from fidkit.config import RerankConfig
from fidkit.engine.cuda import fused, row_attention
from fidkit.engine.cuda.encoder import CudaEncoder
from fidkit.engine.cuda.fused import PLAIN, Compiled
from fidkit.engine.cuda.row_attention import (
    FlexRows,
    PaddedRows,
    SeenBlocks,
    packed_attention,
    prepare,
)
from fidkit.engine.runner import Runner
from fidkit.nn.attention import attend_rows
from fidkit.nn.rows import Rows
from oracles import batch_of, questions, quick, random_reader, small, stack

some_lengths = st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any)
ATTENTION = pytest.mark.parametrize("attention", ["flex", "sdpa"])


@pytest.fixture(autouse=True)
def _flex_as_it_is(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU: FlexAttention uncompiled, for any number of vectors."""
    if request.node.get_closest_marker("gpu"):
        return
    monkeypatch.setattr(row_attention, "_FEW", 1)
    monkeypatch.setattr(row_attention, "_NARROWEST", 1)
    monkeypatch.setattr(
        row_attention, "compiled_flex", lambda: lambda *args, instead: packed_attention(*args)
    )


def rows_of(lengths: list[int]) -> Rows:
    return Rows(torch.tensor(lengths))


@st.composite
def configs(draw):
    live = draw(st.integers(0, 3))
    some = st.builds(RerankConfig, after=st.integers(1, max(1, live)), keep=st.integers(1, 3))
    return small(
        encoder=stack(3, width=draw(st.sampled_from([16, 20])), heads=3),
        decoder=stack(1),
        shared_embedding=False,
        block=draw(st.sampled_from(["t5", "t5-v1.1"])),
        live_layers=live,
        memory_encoder=draw(st.sampled_from([None, stack(2, width=24, heads=2)])),
        live_attention=draw(st.sampled_from(["full", "passage-sees-question", "question-sees-passage"])),
        rerank=draw(st.none() | some) if live else None,
        kept_vectors=draw(st.sampled_from([None, 3])),
        question_in_context=draw(st.sampled_from(["each", "once"])),
    )


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@ATTENTION
@quick
@given(config=configs(), examples=questions(), seed=st.integers(0, 9))
@torch.no_grad()
def test_contexts_are_the_plain_readers(attention, config, examples, seed: int) -> None:
    reader, batch = random_reader(config, seed, apart=True), batch_of(examples)
    found, wanted = reader.read(batch, CudaEncoder(PLAIN, attention)), reader.read(batch)
    torch.testing.assert_close(found.states_BMD, wanted.states_BMD, rtol=1e-5, atol=1e-5)
    assert torch.equal(found.mask_BM, wanted.mask_BM)


def attends(config=None, heads: int = 4) -> tuple:
    layers = random_reader(config or small(encoder=stack(1, heads=heads))).live_encoder

    def check(rows: Rows, attend: Callable) -> None:
        q, k, v = torch.randn(3, len(rows.row_X), heads, 6).unbind()
        wanted = attend_rows(q, k, v, rows, layers.bias(rows.longest))
        torch.testing.assert_close(attend(q, k, v), wanted, rtol=1e-5, atol=1e-5)

    return layers, check


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@quick
@given(lengths=some_lengths)
@torch.no_grad()
def test_every_way_attends_as_the_plain_one(lengths: list[int]) -> None:
    layers, check = attends()
    rows = rows_of(lengths)
    check(rows, FlexRows(layers, rows))
    check(rows, PaddedRows(layers, rows, torch.float32))


@torch.no_grad()
def test_rows_of_one_length_are_not_copied() -> None:
    layers, check = attends()
    rows = rows_of([7] * 5)
    attend = PaddedRows(layers, rows, torch.float32)
    assert attend.uniform
    check(rows, attend)


@given(lengths=st.lists(st.one_of(st.integers(0, 90), st.sampled_from([16, 32, 64])), min_size=1).filter(any))
@example(lengths=[9, 24, 8, 24])  # the third block sees all five: a row at each end, both begin in mid-block
def test_blocks_are_those_of_the_whole_mask(lengths: list[int]) -> None:
    rows, size = rows_of(lengths), 16
    X, row_X = len(rows.row_X), rows.row_X
    mask = create_block_mask(
        lambda b, h, q, k: row_X[q] == row_X[k], None, None, X, X, device="cpu", BLOCK_SIZE=size
    )
    found = SeenBlocks.of(rows, size)
    theirs = (mask.kv_num_blocks, mask.kv_indices, mask.full_kv_num_blocks, mask.full_kv_indices)
    partly, fully = (_dense(*found[i : i + 2]) for i in (0, 2))
    # A block that padding ends is full for them, and is none for us.
    whole = X // size
    assert torch.equal(fully[:whole, :whole], _dense(*theirs[2:])[:whole, :whole])
    assert torch.equal(partly | fully, _dense(*theirs[:2]) | _dense(*theirs[2:]))
    assert not (partly & fully).any()
    assert torch.equal(partly, partly.T)
    assert torch.equal(fully, fully.T)


def _dense(counts, numbers) -> torch.Tensor:
    """[n, n], True where a block of keys is listed."""
    out = torch.zeros(numbers.shape[2:], dtype=torch.bool)
    for query, (count, listed) in enumerate(zip(counts[0, 0].tolist(), numbers[0, 0].tolist(), strict=True)):
        assert len(set(listed[:count])) == count
        out[query, listed[:count]] = True
    return out


@pytest.mark.parametrize("most", [3, 12, 128])
@torch.no_grad()
def test_bias_by_distance_holds_all_there_is(most: int) -> None:
    layers = random_reader(small(relative_max_distance=most, relative_buckets=4)).live_encoder
    table, full = layers.bias_by_distance(layers.relative_bias.max_distance), layers.bias(200)[0]
    distance = torch.arange(200)[None] - torch.arange(200)[:, None]
    assert torch.equal(table[:, distance.clamp(-most, most) + most], full)


@pytest.mark.slow
@torch.no_grad()
def test_other_lengths_compile_nothing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = CompileCounter()
    flex = torch.compile(lambda *args: packed_attention(*args), backend=counter)
    monkeypatch.setattr(row_attention, "compiled_flex", lambda: lambda *args, instead: flex(*args))
    layers, check = attends()
    for lengths in ([256] * 5, [5, 7, 0, 300, 20, 900], [130] * 17, [2000]):
        rows = rows_of(lengths)
        check(rows, FlexRows(layers, rows))
    assert counter.frame_count == 1


@torch.no_grad()
def test_other_numbers_of_vectors_compile_nothing_anew() -> None:
    counter, norm = CompileCounter(), random_reader(small()).live_encoder.norm
    add_norm = Compiled(lambda *args: fused.add_norm(*args), dynamic=True, backend=counter)
    for X in (50, 7, 2, 300):
        x, change = torch.randn(2, X, 16).unbind()
        both, normed = add_norm(x, change, norm.weight, norm.epsilon)
        assert torch.equal(both, x + change)
        torch.testing.assert_close(normed, norm(x + change))
    assert counter.frame_count == 1


@torch.no_grad()
def test_without_a_compiler_rows_are_padded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(graph, inputs):
        raise RuntimeError("no compiler")

    flex = Compiled(packed_attention, backend=broken)
    monkeypatch.setattr(row_attention, "compiled_flex", lambda: flex)
    layers, check = attends()
    rows = rows_of([20, 3, 0, 9])
    attend = FlexRows(layers, rows)
    with caplog.at_level(logging.WARNING, logger="fidkit"):
        check(rows, attend)
        check(rows, attend)
    [record] = caplog.records
    assert "packed_attention isn't compiled" in record.getMessage()


@torch.no_grad()
def test_flex_gives_way_where_it_does_not_suit(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = random_reader(small()).live_encoder
    rows, like = rows_of([30]), torch.zeros(30, 4, 6)
    assert isinstance(prepare("flex", layers, rows, like), FlexRows)
    assert isinstance(prepare("sdpa", layers, rows, like), PaddedRows)
    for name, least in (("_FEW", 31), ("_NARROWEST", 7)):
        with monkeypatch.context() as patch:
            patch.setattr(row_attention, name, least)
            assert isinstance(prepare("flex", layers, rows, like), PaddedRows)


@torch.no_grad()
def test_what_is_idle_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, batch, freed = random_reader(small()), batch_of([([1], [[2, 3]], [1])]), []
    encode = CudaEncoder._encode

    def tight(self, *args):
        if not freed:
            raise torch.OutOfMemoryError
        return encode(self, *args)

    monkeypatch.setattr(CudaEncoder, "_encode", tight)
    with pytest.raises(torch.OutOfMemoryError):
        reader.read(batch, CudaEncoder())
    found = reader.read(batch, CudaEncoder(attention="sdpa", make_room=lambda: not freed.append(1)))
    torch.testing.assert_close(found.states_BMD, reader.read(batch).states_BMD)


# On a device


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnCuda:
    LENGTHS = ([256] * 6, [5, 7, 0, 300, 20, 900], [130] * 17, [100, 40, 300] * 4, [2000])

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @ATTENTION
    @torch.no_grad()
    def test_rows_attend_as_the_plain_ones(
        self, attention, dtype: torch.dtype, caplog: pytest.LogCaptureFixture
    ) -> None:
        layers = random_reader(small(encoder=stack(1, head_width=64))).live_encoder.cuda()
        for lengths in self.LENGTHS:
            rows = Rows(torch.tensor(lengths, device="cuda"))
            q, k, v = torch.randn(3, len(rows.row_X), 4, 64, device="cuda").to(dtype).unbind()
            q = q / 8
            wanted = attend_rows(q.float(), k.float(), v.float(), rows, layers.bias(rows.longest))
            attend = prepare(attention, layers, rows, q)
            assert isinstance(attend, FlexRows if attention == "flex" else PaddedRows)
            near = 1e-3 if dtype is torch.float32 else 3e-2
            torch.testing.assert_close(attend(q, k, v).float(), wanted, rtol=near, atol=near)
        assert not caplog.records  # compiled, not given up

    @pytest.mark.parametrize("functions", [PLAIN, None], ids=["as they are", "compiled"])
    @ATTENTION
    @torch.no_grad()
    def test_contexts_are_the_plain_readers(self, attention, functions) -> None:
        reader = random_reader(small(encoder=stack(2, head_width=16), live_layers=1), apart=True).cuda()
        examples = [([1, 2, 3], [[4] * n for n in (400, 300, 350, 20)], [1]), ([5], [[6] * 90], [1])]
        batch = batch_of(examples).to("cuda")
        wanted = reader.read(batch)
        found = reader.read(batch, CudaEncoder(functions or fused.compiled(), attention))
        torch.testing.assert_close(found.states_BMD, wanted.states_BMD, rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
    @torch.no_grad()
    def test_the_runner_answers_as_the_plain_one(self, precision) -> None:
        reader = random_reader(small(encoder=stack(2, head_width=16), decoder=stack(2, head_width=16))).cuda()
        batch = batch_of([([1, 2, 3], [[4] * 700, [7] * 500], [1]), ([5], [[6] * 90], [1])]).to("cuda")
        logits = []
        for plain in (False, True):
            runner = Runner(reader, precision, plain=plain)
            assert (type(runner._run) is CudaEncoder) is not plain
            cache = runner.start(runner.read(batch), 3)
            ids = torch.tensor([[5, 6], [7, 8], [9, 9]], device="cuda")
            logits.append(torch.stack([runner.step(one, cache) for one in ids]))
        found, wanted = logits
        if precision == "float32":
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
        else:
            assert (found - wanted).abs().mean() < 0.06 * wanted.std()
