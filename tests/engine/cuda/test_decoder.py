"""The step with fixed addresses is the plain reader's, recorded as a CUDA graph or not."""

import gc
import logging
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fidkit.engine.cuda.decoder import CudaDecoder, Size, StaticStep
from fidkit.engine.cuda.fused import PLAIN, Compiled, Functions, compiled
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.generate import generate
from fidkit.errors import FidkitError, UsageError
from oracles import batch_of, questions, quick, random_reader, small, stack

EXAMPLES = [([1, 2], [[3] * 9, [4] * 4], [1]), ([5], [[6] * 3], [1])]
LEAST_ROOM, LEAST_CAPACITY = 256, 64
# Compiled, without waiting for a compiler.
TRACED = Functions(
    *(
        Compiled(function, dynamic=True, backend="eager")
        for function in (PLAIN.norm, PLAIN.add_norm, PLAIN.gated_gelu, PLAIN.weigh, PLAIN.causal_row)
    )
)


class Source(CudaDecoder):
    """What generation steps through."""

    @property
    def config(self):
        return self.reader.config


@st.composite
def configs(draw):
    heads = draw(st.sampled_from([2, 4]))
    depth = draw(st.integers(1, 3))
    tied = draw(st.booleans())
    return small(
        encoder=stack(1, width=24),
        decoder=stack(depth, width=draw(st.sampled_from([20, 40])), heads=heads, head_width=5),
        shared_embedding=False,
        block=draw(st.sampled_from(["t5", "t5-v1.1"])),
        tied_head=tied,
        cross_attention_every=draw(st.integers(1, depth)),
        self_kv_heads=draw(st.sampled_from([1, heads // 2, heads])),
        cross_kv_heads=draw(st.sampled_from([1, heads // 2, heads])),
    )


@torch.no_grad()
def steps(source, context, beams: int, tokens) -> torch.Tensor:
    """Logits of teacher-forced tokens [T, N]."""
    cache = source.start(context, len(tokens), beams)
    return torch.stack([source.step(ids, cache) for ids in tokens])


def context_of(reader, examples=EXAMPLES):
    with torch.no_grad():
        return reader.read(batch_of(examples))


@pytest.mark.parametrize("functions", [PLAIN, TRACED], ids=["as they are", "traced"])
@quick
@given(config=configs(), examples=questions(), beams=st.sampled_from([1, 3]), seed=st.integers(0, 9))
def test_logits_are_the_plain_readers(functions, config, examples, beams: int, seed: int) -> None:
    reader = random_reader(config, seed)
    context, decoder = context_of(reader, examples), CudaDecoder(reader, functions)
    tokens = torch.randint(0, config.vocabulary_size, (5, len(examples) * beams))
    wanted = steps(reader, context, beams, tokens)
    for _ in range(2):  # the second time in the tensors of the first
        torch.testing.assert_close(steps(decoder, context, beams, tokens), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "decoding", [Decoding(max_tokens=8), Decoding(max_tokens=8, beams=4, n_best=2, no_repeat_ngram=2)]
)
@quick
@given(config=configs(), examples=questions())
def test_answers_are_the_plain_readers(decoding: Decoding, config, examples) -> None:
    reader = random_reader(config)
    context = context_of(reader, examples)
    found, wanted = (generate(source, context, decoding) for source in (Source(reader), reader))
    assert torch.equal(found.ids_BT, wanted.ids_BT)


def test_nothing_is_left_of_other_questions() -> None:
    reader = random_reader(small())
    decoder, tokens = CudaDecoder(reader), torch.tensor([[1, 2], [3, 4], [5, 6]])
    long, short = context_of(reader), context_of(reader, [([5], [[6]], [1]), ([7], [[8]], [1])])
    steps(decoder, long, 1, tokens)
    # Contents that aren't finite, for whatever isn't written again.
    [step] = decoder._idle
    for pair in step.caches.cross:
        for cache in pair:
            cache.fill_(float("nan"))
    step.caches.self_values.fill_(float("nan"))
    torch.testing.assert_close(steps(decoder, short, 1, tokens), steps(reader, short, 1, tokens))
    assert decoder._idle == [step]


def test_caches_of_one_size_live_side_by_side() -> None:
    reader = random_reader(small())
    decoder, context = Source(reader), context_of(reader)
    ids = torch.tensor([3, 4])
    with torch.no_grad():
        one, other = decoder.start(context, 4), decoder.start(context, 4)
        first = decoder.step(ids, one)
        decoder.step(torch.tensor([9, 9]), other)
        second = decoder.step(ids, one)
    torch.testing.assert_close(torch.stack([first, second]), steps(reader, context, 1, [ids, ids]))
    assert one.step is not other.step
    kept = {id(one.step), id(other.step)}
    del one, other
    assert {id(step) for step in decoder._idle} == kept


def test_rows_are_selected() -> None:
    reader = random_reader(small())
    decoder, context = CudaDecoder(reader), context_of(reader)
    first, second = torch.tensor([5, 6, 7, 8]), torch.tensor([9, 9, 9, 9])
    rows = torch.tensor([1, 1, 3, 2])
    with torch.no_grad():
        cache = decoder.start(context, 4, 2)
        decoder.step(first, cache)
        cache.select(rows)
        found = decoder.step(second, cache)
    torch.testing.assert_close(found, steps(reader, context, 2, [first[rows], second])[-1])


def test_inside_and_outside_of_inference_mode() -> None:
    reader = random_reader(small())
    decoder, context, ids = CudaDecoder(reader), context_of(reader), torch.tensor([3, 4])
    wanted = steps(reader, context, 1, [ids, ids])
    with torch.inference_mode():
        inside = steps(decoder, context, 1, [ids, ids])
        cache = decoder.start(context, 4)
        decoder.step(ids, cache)
    with torch.no_grad():
        half = decoder.step(ids, cache)
    torch.testing.assert_close(inside, wanted)
    torch.testing.assert_close(half, wanted[1])
    torch.testing.assert_close(steps(decoder, context, 1, [ids, ids]), wanted)


def test_a_full_cache_says_so() -> None:
    reader = random_reader(small())
    decoder = CudaDecoder(reader)
    cache = decoder.start(context_of(reader), 1)
    decoder.step(torch.tensor([3, 4]), cache)
    with pytest.raises(UsageError, match="max_tokens=2 or more"):
        decoder.step(torch.tensor([3, 4]), cache)


@given(st.integers(1, 100), st.sampled_from([1, 4]), st.integers(0, 20_000), st.integers(1, 600))
def test_sizes_are_little_larger(questions: int, beams: int, vectors: int, tokens: int) -> None:
    size = Size.of(questions, beams, vectors, tokens)
    assert questions <= size.questions <= questions * 9 / 8
    assert vectors <= size.room <= max(LEAST_ROOM, vectors * 9 / 8)
    assert tokens <= size.capacity <= max(LEAST_CAPACITY, tokens * 9 / 8)
    assert Size.of(*size) == size


@pytest.mark.parametrize("exact", [(24, 1, 40 * 256, 64), (64, 16, 40 * 256, 512), (1, 1, 256, 64)])
def test_the_papers_sizes_waste_nothing(exact) -> None:
    assert Size.of(*exact) == exact


def test_few_steps_are_kept() -> None:
    reader = random_reader(small())
    decoder = CudaDecoder(reader)
    for number in (1, 2, 3, 4, 5, 1):
        decoder.start(context_of(reader, [EXAMPLES[0]] * number), 4)
    assert [step.size.questions for step in decoder._idle] == [1, 5, 4, 3]
    decoder._spare_bytes = decoder._idle[1].nbytes
    decoder.start(context_of(reader, EXAMPLES), 4)
    assert [step.size.questions for step in decoder._idle] == [2, 1]
    assert decoder.make_room()
    assert not decoder.make_room()
    assert not decoder._idle


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), FidkitError("full")])
def test_idle_steps_make_room(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    reader = random_reader(small())
    decoder, context, fill = CudaDecoder(reader), context_of(reader), StaticStep.fill
    decoder.start(context, 4)

    def tight(self, *args):
        if decoder._idle:
            raise error
        return fill(self, *args)

    monkeypatch.setattr(StaticStep, "fill", tight)
    assert decoder.start(context, 100).max_tokens == 100

    def never(self, *args):
        raise error

    monkeypatch.setattr(StaticStep, "fill", never)
    with pytest.raises(type(error), match="full"):
        decoder.start(context, 4)


def test_what_cannot_be_recorded_runs_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(self) -> None:
        raise RuntimeError("operation not permitted\nwhen capturing")

    monkeypatch.setattr(StaticStep, "record", fails)
    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.no_grad())
    reader = random_reader(small())
    decoder, context, tokens = CudaDecoder(reader), context_of(reader), torch.tensor([[1, 2], [3, 4]])
    decoder._records = True
    with caplog.at_level(logging.WARNING, logger="fidkit"):
        found = [steps(decoder, context, beams, tokens.repeat(1, beams)) for beams in (1, 2)]
    for beams, logits in zip((1, 2), found, strict=True):
        torch.testing.assert_close(logits, steps(reader, context, beams, tokens.repeat(1, beams)))
    assert [r.getMessage() for r in caplog.records] == [
        "decoder steps aren't recorded as CUDA graphs, answers take longer: operation not permitted"
    ]


def test_what_cannot_be_compiled_runs_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    def broken(graph, inputs):
        raise RuntimeError("no compiler")

    def double(x):
        return x + x

    function, x = Compiled(double, backend=broken), torch.randn(3)
    with caplog.at_level(logging.WARNING, logger="fidkit"):
        found = [function(x) for _ in range(2)]
    assert all(torch.equal(one, 2 * x) for one in found)
    [record] = caplog.records
    assert "double isn't compiled, answers take longer: " in record.getMessage()
    assert "no compiler" in record.getMessage()


def test_running_out_of_memory_is_no_reason_not_to_compile() -> None:
    def full(x):
        raise torch.OutOfMemoryError("full")

    function = Compiled(full)
    function.compiled = full
    with pytest.raises(torch.OutOfMemoryError):
        function(torch.zeros(1))
    assert function.compiled is full


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="needs a C++ compiler")
def test_compiled_functions_are_the_plain_ones() -> None:
    reader = random_reader(small(decoder=stack(2, head_width=8)))
    decoder, context = CudaDecoder(reader, compiled()), context_of(reader)
    for beams in (1, 2, 3):
        tokens = torch.randint(0, 37, (3, 2 * beams))
        found, wanted = (steps(source, context, beams, tokens) for source in (decoder, reader))
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert all(function.compiled is not None for function in vars(compiled()).values())


# On a device


def wide(**knobs):
    return small(
        **{"encoder": stack(head_width=16), "decoder": stack(3, width=24, head_width=16)}
        | {"shared_embedding": False, "cross_attention_every": 2, "cross_kv_heads": 1}
        | knobs
    )


@pytest.fixture(params=[PLAIN, None], ids=["as they are", "compiled"])
def functions(request: pytest.FixtureRequest) -> Functions:
    return request.param or compiled()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnCuda:
    @pytest.mark.parametrize("beams", [1, 3])
    @pytest.mark.parametrize("block", ["t5", "t5-v1.1"])
    def test_recorded_steps_are_the_plain_readers(self, functions, block: str, beams: int) -> None:
        reader = random_reader(wide(block=block, tied_head=block == "t5")).cuda()
        with torch.no_grad():
            context = reader.read(batch_of(EXAMPLES).to("cuda"))
        decoder, tokens = CudaDecoder(reader, functions), torch.randint(0, 37, (5, 2 * beams)).cuda()
        wanted = steps(reader, context, beams, tokens)
        for _ in range(2):
            found = steps(decoder, context, beams, tokens)
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
        assert decoder._records
        assert decoder._idle[0].graph is not None

    def test_recorded_answers_are_the_plain_readers(self, functions) -> None:
        reader = random_reader(wide()).cuda()
        with torch.no_grad():
            context = reader.read(batch_of(EXAMPLES).to("cuda"))
        for decoding in (Decoding(max_tokens=12), Decoding(max_tokens=12, beams=4, n_best=2)):
            found, wanted = (
                generate(source, context, decoding) for source in (Source(reader, functions), reader)
            )
            assert found.ids_BT.tolist() == wanted.ids_BT.tolist()

    @torch.no_grad()
    def test_a_step_does_not_wait_for_the_device(self, functions) -> None:
        reader = random_reader(wide()).cuda()
        decoder = CudaDecoder(reader, functions)
        cache = decoder.start(reader.read(batch_of(EXAMPLES).to("cuda")), 4, 3)
        ids, rows = torch.full((6,), 5, device="cuda"), torch.tensor([1, 1, 0, 5, 4, 3], device="cuda")
        decoder.step(ids, cache)
        torch.cuda.set_sync_debug_mode("error")
        try:
            cache.select(rows)
            decoder.step(ids, cache)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_memory_is_given_back(self) -> None:
        reader = random_reader(wide()).cuda()
        with torch.no_grad():
            context = reader.read(batch_of(EXAMPLES).to("cuda"))
        decoder, allocated = CudaDecoder(reader), []
        for _ in range(3):
            held = decoder.start(context, 100_000).step.nbytes
            decoder.make_room()
            gc.collect()
            torch.cuda.synchronize()
            allocated.append(torch.cuda.memory_allocated())
        assert allocated[2] - allocated[1] < held / 4
