"""The fast path is the plain one: every knob, every precision, with and without native kernels."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fidkit import native
from fidkit.config import RerankConfig
from fidkit.engine import runner as runner_module
from fidkit.engine.cpu.decoder import NativeCache
from fidkit.engine.cpu.products import packs
from fidkit.engine.cpu.stack import CHUNK, chunks
from fidkit.engine.generation.generate import greedy
from fidkit.engine.precision import PRECISIONS, Precision
from fidkit.engine.runner import Runner, loading_type, multiplies_bfloat16
from fidkit.errors import UsageError
from fidkit.nn.encoder import EncoderLayers
from fidkit.nn.rows import Rows
from fidkit.reader import Reader
from oracles import batch_of, questions, quick, random_reader, small, stack
from vectors import NARROW, kernels_with

WIDE = small(encoder=stack(head_width=16), decoder=stack(2, head_width=16))
WAYS = pytest.mark.parametrize("way", ["native", "plain", *NARROW])


def runner_of(way: str, reader: Reader, precision: Precision = "as-is") -> Runner:
    """With the kernels of this CPU, with narrower vectors than it has, or without kernels."""
    with pytest.MonkeyPatch.context() as patch:
        if way in NARROW:
            patch.setattr(native, "kernels", lambda: kernels_with(way))
        return Runner(reader, precision, plain=way == "plain")


@st.composite
def configs(draw, **fixed):
    heads = draw(st.sampled_from([2, 4]))
    depth = draw(st.integers(1, 3))
    decoder = stack(depth, width=draw(st.sampled_from([20, 40])), heads=heads, head_width=16)
    tied = draw(st.booleans())
    live = draw(st.integers(0, 3))
    some = st.builds(RerankConfig, after=st.integers(1, max(1, live)), keep=st.integers(1, 3))
    knobs = {
        "encoder": stack(3, width=24, heads=3, head_width=16),
        "decoder": decoder,
        "shared_embedding": False,
        "block": "t5" if tied else "t5-v1.1",
        "tied_head": tied,
        "live_layers": live,
        "memory_encoder": draw(st.sampled_from([None, stack(2, width=20, heads=2, head_width=32)])),
        "live_attention": draw(st.sampled_from(["full", "passage-sees-question", "question-sees-passage"])),
        "rerank": draw(st.none() | some) if live else None,
        "kept_vectors": draw(st.sampled_from([None, 3])),
        "question_in_context": draw(st.sampled_from(["each", "once"])),
        "cross_attention_every": draw(st.integers(1, depth)),
        "self_kv_heads": draw(st.sampled_from([1, heads])),
        "cross_kv_heads": draw(st.sampled_from([1, heads // 2, heads])),
    }
    return small(**knobs | fixed)


@torch.no_grad()
def steps(source, context, beams: int, tokens) -> torch.Tensor:
    """Logits of teacher-forced tokens [T, N]."""
    cache = source.start(context, len(tokens), beams)
    return torch.stack([source.step(ids, cache) for ids in tokens])


@WAYS
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("family", ["t5", "bert"])
@quick
@given(
    live=st.integers(0, 2),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    seed=st.integers(0, 9),
)
def test_memory_is_the_same_in_any_company_to_the_last_bit(
    way: str, family: str, precision: Precision, live: int, lengths: list[int], seed: int
) -> None:
    # PyTorch may round the last elements of an array otherwise, where rows are no whole vectors (of 16).
    encoder = stack(head_width=16, feed_forward=32).replace(family=family)
    config = WIDE.replace(encoder=encoder, live_layers=live)
    runner = runner_of(way, random_reader(config, seed), precision)
    lengths_R = torch.tensor(lengths)
    ids_RP = torch.randint(0, config.vocabulary_size, (len(lengths), max(lengths)))
    together = runner.encode_passages(ids_RP, lengths_R).split(lengths)
    for number, length in enumerate(lengths):
        alone = runner.encode_passages(ids_RP[number : number + 1, :length], lengths_R[number : number + 1])
        assert torch.equal(alone, together[number])


@WAYS
@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_bfloat16_in_hardware_is_taken(way: str, precision: Precision, monkeypatch) -> None:
    """Whatever this CPU has: what others compute with must run here, too."""
    monkeypatch.setattr(runner_module, "multiplies_bfloat16", lambda _: True)
    reader, batch = random_reader(WIDE), batch_of([([2, 3], [[4, 5, 6], [7]], [8])])
    runner = runner_of(way, reader, precision)
    context, wanted = runner.read(batch), reader.read(batch)
    assert context.states_BMD.dtype is torch.bfloat16
    tokens = torch.randint(0, WIDE.vocabulary_size, (4, 1))
    near, exact = steps(runner, context, 1, tokens), steps(reader, wanted, 1, tokens)
    assert (near - exact).abs().mean() < 0.12 * exact.std()


@quick
@given(
    family=st.sampled_from(["t5", "t5-v1.1", "bert"]),
    live=st.integers(0, 2),
    examples=questions(),
    seed=st.integers(0, 9),
)
def test_what_was_stored_in_8_bits_is_multiplied_as_such(family: str, live: int, examples, seed: int) -> None:
    """By `auto`, and nothing is lost by it; in float32 where one matrix isn't of 8 bits."""
    encoder = stack(head_width=16, feed_forward=32).replace(family=family)
    config = WIDE.replace(encoder=encoder, live_layers=live)
    reader, batch = random_reader(config, seed), batch_of(examples)
    if multiplies_bfloat16(torch.device("cpu")) or native.kernels() is None:
        return
    fresh = Runner(reader, "auto").read(batch).states_BMD
    assert torch.equal(fresh, Runner(reader, "float32").read(batch).states_BMD)
    runner_module._round(reader)
    wanted, found = (Runner(reader, precision).read(batch).states_BMD for precision in ("float32", "auto"))
    assert not torch.equal(found, wanted)
    assert (found - wanted).abs().max() < 1e-3 * wanted.abs().max()
    encoders = [module for module in reader.modules() if isinstance(module, EncoderLayers) and module.layers]
    with torch.no_grad():
        for encoder in encoders:
            encoder.layers[-1].feed_forward.out.weight.mul_(
                1 + 1e-3 * torch.rand(config.encoder.feed_forward)
            )
    wanted, found = (Runner(reader, precision).read(batch).states_BMD for precision in ("float32", "auto"))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@WAYS
@quick
@given(config=configs(), examples=questions(), beams=st.sampled_from([1, 3, 7]), seed=st.integers(0, 9))
def test_float32_is_the_plain_reader(way: str, config, examples, beams: int, seed: int) -> None:
    reader, batch = random_reader(config, seed, apart=True), batch_of(examples)
    runner, exact = runner_of(way, reader), copy.deepcopy(reader).double()
    assert runner.native == (way != "plain") or native.kernels() is None
    context, wanted, true = (source.read(batch) for source in (runner, reader, exact))
    assert_near(context.states_BMD, wanted.states_BMD, true.states_BMD)
    if config.rerank:
        assert_near(context.scores_BN, wanted.scores_BN, true.scores_BN)
    for name in ("mask_BM", "passage_BM", "token_BM"):
        assert torch.equal(getattr(context, name), getattr(wanted, name))
    tokens = torch.randint(0, config.vocabulary_size, (5, len(examples) * beams))
    same = dataclasses.replace(wanted, states_BMD=wanted.states_BMD.double())
    found, plainly = (steps(source, wanted, beams, tokens) for source in (runner, reader))
    assert_near(found, plainly, steps(exact, same, beams, tokens))


@WAYS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@quick
@given(config=configs(kept_vectors=None, rerank=None), examples=questions(), seed=st.integers(0, 9))
def test_a_bert_encoder_is_the_plain_one(way: str, dtype, config, examples, seed: int) -> None:
    config = config.replace(encoder=config.encoder.replace(family="bert"))
    reader, batch = random_reader(config, seed, apart=True).to(dtype), batch_of(examples)
    exact = copy.deepcopy(reader).double().read(batch)
    context, wanted = (source.read(batch) for source in (runner_of(way, reader), reader))
    if dtype == torch.float32:
        assert_near(context.states_BMD, wanted.states_BMD, exact.states_BMD)
    else:
        distance = (context.states_BMD.double() - exact.states_BMD)[exact.mask_BM]
        assert distance.abs().mean() < 0.06 * exact.states_BMD[exact.mask_BM].std()
    assert torch.equal(context.mask_BM, wanted.mask_BM)


def assert_near(found: Tensor, plain: Tensor, exact: Tensor) -> None:
    """To 1e-5 and, where the weights amplify rounding, thrice as far from float64 as the plain reader."""
    real = plain.isfinite()
    assert torch.equal(found.isfinite(), real)
    distance, own = (found - exact)[real].abs(), (plain - exact)[real].abs()
    assert (distance <= 1e-5 * (1 + exact[real].abs()) + 3 * own.max()).all()


@WAYS
@quick
@given(config=configs(), examples=questions())
def test_memory_at_hand_is_memory_computed(way: str, config, examples) -> None:
    runner, batch = runner_of(way, random_reader(config, apart=True)), batch_of(examples)
    memory = runner.encode_passages(batch.passage_ids, batch.passage_lengths)
    assert torch.equal(runner.read_memory(batch, memory).states_BMD, runner.read(batch).states_BMD)


def test_native_rounding_is_no_worse_than_the_plain_readers() -> None:
    """Against float64, over weights that amplify rounding: on average at most half as much again."""
    native_errors, plain_errors = [], []
    for seed in range(10):
        reader = random_reader(WIDE.replace(live_layers=seed % 4), seed, apart=True)
        batch = batch_of([([2, 3], [[16, 2, 34, 14], list(range(1, 30))], [2])])
        exact = copy.deepcopy(reader).double().read(batch).states_BMD
        for errors, source in ((native_errors, Runner(reader)), (plain_errors, reader)):
            errors.append((source.read(batch).states_BMD.double() - exact).abs().mean().item())
    assert sum(native_errors) < 1.5 * sum(plain_errors)


@quick
@given(config=configs(), examples=questions())
def test_greedy_answers_are_the_plain_readers(config, examples) -> None:
    reader, batch = random_reader(config), batch_of(examples)
    runner = Runner(reader)
    found, wanted = greedy(runner, runner.read(batch), 8), greedy(reader, reader.read(batch), 8)
    assert torch.equal(found.ids_BT, wanted.ids_BT)


@WAYS
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@quick
@given(config=configs(kept_vectors=None, rerank=None), examples=questions())
def test_low_precision_is_near(way: str, precision, config, examples) -> None:
    """Within 6 % of the spread on average, 12 % with rounded weights: bounds that a wrong head breaks."""
    reader, batch = random_reader(config), batch_of(examples)
    runner = runner_of(way, reader, precision)
    wanted, found = reader.read(batch), runner.read(batch)
    half = runner.reader.embedding.weight.dtype is torch.bfloat16
    assert half or precision == "int8"
    assert found.states_BMD.dtype is (torch.bfloat16 if half else torch.float32)
    distance = (found.states_BMD.float() - wanted.states_BMD)[wanted.mask_BM]
    assert distance.abs().mean() < 0.06 * wanted.states_BMD[wanted.mask_BM].std()
    tokens = torch.randint(0, config.vocabulary_size, (4, len(examples)))
    near, exact = steps(runner, found, 1, tokens), steps(reader, wanted, 1, tokens)
    assert (near - exact).abs().mean() < (0.06 if precision == "bfloat16" else 0.12) * exact.std()


@quick
@given(examples=questions())
def test_only_rows_of_two_sides_are_left_to_the_plain_layers(examples) -> None:
    """All other layers run on native kernels: both halves of the live ones, the memory and the question."""
    plain = EncoderLayers.forward
    ran: list[Rows] = []

    def watched(layers: EncoderLayers, x: torch.Tensor, rows: Rows, norm=None) -> torch.Tensor:
        if layers.layers:
            ran.append(rows)
        return plain(layers, x, rows, norm)

    def plainly_run(config) -> list[Rows]:
        ran.clear()
        runner = Runner(random_reader(config))
        assert runner.native or native.kernels() is None
        runner.read(batch_of(examples))
        return [*ran] if runner.native else []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EncoderLayers, "forward", watched)
        rerank = RerankConfig(after=1, keep=1)
        assert plainly_run(WIDE.replace(live_layers=2, rerank=rerank.model_dump())) == []
        bert = stack(head_width=16).replace(family="bert")
        assert plainly_run(WIDE.replace(live_layers=2, encoder=bert)) == []
        one_way = plainly_run(WIDE.replace(live_layers=2, live_attention="passage-sees-question"))
        assert len(one_way) == (1 if native.kernels() else 0)
        assert all(rows.sides is not None for rows in one_way)


def test_many_keys_are_read_in_chunks() -> None:
    """More keys than a thread scores at once, in questions of very different lengths."""
    examples = [([1, 2], [[3] * 700, [4] * 650], [1]), ([5], [[6] * 9], [1])]
    reader, batch = random_reader(WIDE), batch_of(examples)
    context, tokens = reader.read(batch), torch.randint(0, 37, (3, 4))
    found, wanted = (steps(source, context, 2, tokens) for source in (Runner(reader), reader))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def memories(cache: NativeCache) -> list[np.ndarray]:
    return [memory for pair in cache.crossed.packed for memory in pair]


def test_memory_of_earlier_questions_is_never_read() -> None:
    """It is taken over as it was left, by one cache at a time."""
    reader = random_reader(WIDE)
    runner = Runner(reader)
    long, short = (
        reader.read(batch_of([([1, 2], [[3] * count, [4] * count], [1]), ([5], [[6] * 9], [1])]))
        for count in (40, 7)
    )
    spoilt = runner.start(long, 2)
    assert isinstance(spoilt, NativeCache)
    for memory in memories(spoilt):
        memory.fill(float("nan"))
    address = memories(spoilt)[0].ctypes.data
    del spoilt, memory
    tokens = torch.randint(0, 37, (2, 2))
    one, other = runner.start(short, 2), runner.start(long, 2)
    assert memories(one)[0].ctypes.data == address != memories(other)[0].ctypes.data
    for cache, context in ((one, short), (other, long)):
        found = torch.stack([runner.step(ids, cache) for ids in tokens])
        torch.testing.assert_close(found, steps(reader, context, 1, tokens), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rows_are_selected(precision) -> None:
    runner = Runner(random_reader(WIDE), precision)
    context = runner.read(batch_of([([1, 2], [[3, 4]], [1])]))
    first, second = (torch.tensor(ids) for ids in ([5, 6], [7, 7]))
    cache, straight = runner.start(context, 4, 2), runner.start(context, 4, 2)
    runner.step(first, cache)
    cache.select(torch.tensor([1, 1]))
    runner.step(first[[1, 1]], straight)
    assert torch.equal(runner.step(second, cache), runner.step(second, straight))


@given(lengths=st.lists(st.integers(0, 900), max_size=12))
def test_chunks_hold_whole_rows_once(lengths: list[int]) -> None:
    found = list(chunks(np.cumsum([0, *lengths])))
    assert [n for _, _, starts in found for n in np.diff(starts).tolist()] == lengths
    assert all(end - first == int(starts[-1]) for first, end, starts in found)
    assert all(end - first <= CHUNK for first, end, _ in found)


def test_unknown_precision() -> None:
    with pytest.raises(UsageError, match="'fp16'; expected one of auto, as-is, float32, bfloat16, int8"):
        Runner(random_reader(small()), "fp16")


def test_the_reader_is_left_as_it_is() -> None:
    reader = random_reader(small())
    before = {name: p.clone() for name, p in reader.named_parameters()}
    for precision in PRECISIONS:
        Runner(reader, precision, plain=True)
    assert all(torch.equal(before[name], p) for name, p in reader.named_parameters())


@quick
@given(config=configs(), examples=questions(), seed=st.integers(0, 9))
def test_a_runner_of_its_own_reader_reads_the_same_to_the_last_bit(config, examples, seed: int) -> None:
    reader, batch = random_reader(config, seed, apart=True), batch_of(examples)
    shared = Runner(copy.deepcopy(reader))
    own = Runner(reader, own=True)
    for _ in range(2):  # matrices are laid out in the first round
        contexts = [runner.read(batch) for runner in (own, shared)]
        assert torch.equal(contexts[0].states_BMD, contexts[1].states_BMD)
        tokens = torch.randint(0, config.vocabulary_size, (2, len(examples)))
        found = [steps(runner, contexts[0], 1, tokens) for runner in (own, shared)]
        assert torch.equal(*found)


def test_only_a_reader_of_its_own_is_taken_apart() -> None:
    reader, batch = random_reader(WIDE).bfloat16(), batch_of([([1, 2], [[3, 4]], [1])])
    for runner in (Runner(reader), Runner(reader, own=True)):
        assert not any(p.is_meta for p in reader.parameters())
        runner.read(batch)
    apart = {name for name, p in reader.named_parameters() if p.is_meta}
    if native.kernels() is None or not packs(torch.device("cpu"), torch.bfloat16):
        assert not apart
        return
    layers = reader.live_encoder.layers.named_parameters("live_encoder.layers")
    assert apart == {name for name, p in layers if p.ndim == 2}


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_runner_copies_each_weight_once_and_keeps_ties(precision: str) -> None:
    reader = random_reader(small(tied_head=True))
    stored = reader if precision == "bfloat16" else reader.bfloat16()
    made = Runner(stored, precision).reader
    assert made.head.embedding.weight is made.decoder.embedding.weight is made.embedding.weight
    theirs = dict(stored.named_parameters())
    for name, p in made.named_parameters():
        assert torch.equal(p, theirs[name].to(p.dtype))
        assert p.dtype != theirs[name].dtype
        assert p.requires_grad == theirs[name].requires_grad


def test_what_to_load_a_reader_with(tmp_path: Path) -> None:
    """Then a runner makes no copy of weights that are stored as bfloat16."""
    random_reader(small()).save_pretrained(tmp_path, dtype="bfloat16")
    for precision in PRECISIONS:
        reader = Reader.from_pretrained(tmp_path, loading_type(precision, torch.device("cpu")))
        plain = Runner(Reader.from_pretrained(tmp_path), precision).reader
        made = Runner(reader, precision)
        assert made.reader is reader or (made.int8 and not made.native)
        assert all(
            torch.equal(p, q) for p, q in zip(made.reader.parameters(), plain.parameters(), strict=True)
        )
