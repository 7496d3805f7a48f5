"""Our own readers as subjects: what the reader computes, exactly as many tokens as asked for."""

import pytest
import torch

from bench.toy import CPU, RAGGED
from fidkit import native
from fidkit.bench.questions import synthetic
from fidkit.bench.subjects import DTYPES, Ours, SharedWeights, at_precision, building
from fidkit.config import ReaderConfig
from fidkit.context import collate
from fidkit.cost import Workload, batch_bytes
from fidkit.engine.cpu.products import packs
from fidkit.engine.runner import Runner, multiplies_bfloat16
from fidkit.preset import PRESETS
from fidkit.reader import Reader
from oracles import small, stack

TINY = sorted(name for name in PRESETS if name.startswith("tiny-"))
WIDE = {"encoder": stack(4, head_width=16), "decoder": stack(2, head_width=16)}
TOKENS = 5


def prepared(config: ReaderConfig, precision="float32", **more) -> Ours:
    torch_type = torch.float32 if precision == "float32" else torch.bfloat16
    subject = Ours("it", "it", SharedWeights(config, torch_type, CPU), precision, **more)
    subject.prepare(RAGGED)
    return subject


@torch.inference_mode()
def written(subject: Ours, tokens: int = TOKENS) -> torch.Tensor:
    subject.encode()
    return subject.decode(tokens)


@torch.inference_mode()
def expected(reader: Reader, context, tokens: int = TOKENS) -> torch.Tensor:
    cache, last, out = reader.start(context, tokens), torch.zeros(2, dtype=torch.long), []
    for _ in range(tokens):
        last = reader.step(last, cache).argmax(-1)
        out.append(last)
    return torch.stack(out, 1)


@pytest.mark.parametrize("preset", TINY)
def test_presets_write_what_their_readers_write(preset: str) -> None:
    subject = prepared(PRESETS[preset])
    reader, batch = subject.weights.reader, collate(RAGGED.questions, RAGGED.passages)
    found = written(subject)
    with torch.inference_mode():
        if subject.config.memory_layers:
            memory = reader.encode_passages(batch.passage_ids, batch.passage_lengths).bfloat16().float()
            context = reader.read_memory(batch, memory)
            near = reader.read(batch)
            torch.testing.assert_close(context.states_BMD, near.states_BMD, rtol=0.1, atol=0.1)
        else:
            context = reader.read(batch)
    assert found.shape == (2, TOKENS)
    assert torch.equal(found, expected(reader, context))


@pytest.mark.parametrize("live", [0, 1, 4])
def test_native_kernels_read_stored_memory_too(live: int) -> None:
    config = small(**WIDE, live_layers=live, question_in_context="each" if live else "once")
    subject, plainly = prepared(config), prepared(config, plain=True)
    assert subject.facts.native == (native.kernels() is not None)
    assert not plainly.facts.native
    with torch.inference_mode():
        subject.encode()
        plainly.encode()
        torch.testing.assert_close(
            subject.context.states_BMD, plainly.context.states_BMD, rtol=1e-2, atol=1e-2
        )
        assert subject.decode(3).shape == plainly.decode(3).shape == (2, 3)


def test_passages_in_memory_are_not_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = prepared(PRESETS["tiny-lumen"])

    def refuse(*_):
        raise AssertionError("the memory encoder ran")

    monkeypatch.setattr(Reader, "encode_passages", refuse)
    assert written(subject).shape == (2, TOKENS)
    assert subject.stored.store.codec.kind == "bfloat16"
    assert subject.memory_ms is not None
    assert prepared(PRESETS["tiny-fid"]).memory_ms is None


def test_an_end_of_sequence_stops_nothing() -> None:
    subject = prepared(PRESETS["tiny-fid"])
    with torch.no_grad():
        head = subject.weights.reader.head_weight
        head.zero_()
    written(subject)  # all logits are equal: the first token of the vocabulary, padding, again and again
    assert written(subject, 12).tolist() == [[0] * 12] * 2


def test_answers_repeat() -> None:
    subject = prepared(PRESETS["tiny-fido"])
    assert torch.equal(written(subject, 8), written(subject, 8))
    with torch.inference_mode():
        assert torch.equal(subject.decode(2), subject.decode(8)[:, :2])


def test_subjects_share_weights() -> None:
    weights = SharedWeights(PRESETS["tiny-fid"], torch.float32, CPU)
    one, other = (Ours(str(plain), "it", weights, "float32", plain=plain) for plain in (False, True))
    for subject in (one, other):
        subject.prepare(RAGGED)
    assert one.runner.reader is other.runner.reader


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_precisions(precision) -> None:
    subject = prepared(PRESETS["tiny-fid"], precision)
    assert subject.facts.dtype == precision
    assert written(subject).shape == (2, TOKENS)
    in_full = precision == "float32" or (precision == "int8" and not multiplies_bfloat16(CPU))
    dtype = torch.float32 if in_full else torch.bfloat16
    assert {p.dtype for p in subject.runner.reader.parameters()} == {dtype}
    assert isinstance(subject.runner, Runner)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_needs_are_the_weights_and_the_cost_models_rest(precision) -> None:
    workload = Workload(passages=3, passage_tokens=8, question_tokens=4, output_tokens=6)
    subject = Ours("it", "it", SharedWeights(PRESETS["tiny-fid"], torch.float32, CPU), precision)
    needs = subject.needs(workload)
    size = 4 if precision == "float32" else 2
    memory = batch_bytes(
        subject.config, at_precision(workload, precision), packs=packs(CPU, DTYPES[precision])
    )
    weights = size * sum(p.numel() for p in Reader(subject.config).parameters())
    assert needs.weights == weights + memory.packed
    assert needs.weights + needs.working == memory.total
    plainly = Ours("it", "it", subject.weights, precision, plain=True).needs(workload)
    assert plainly.weights == weights
    assert plainly.working > needs.working


def test_building_leaves_no_trace() -> None:
    state = torch.get_rng_state()
    with building(torch.bfloat16, CPU):
        assert torch.nn.Linear(2, 2).weight.dtype is torch.bfloat16
    assert torch.get_default_dtype() is torch.float32
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_weights_every_time() -> None:
    one, other = (SharedWeights(PRESETS["tiny-fid"], torch.bfloat16, CPU).reader for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_random_tokens_are_words() -> None:
    workload = Workload(questions=2, passages=3, passage_tokens=50, question_tokens=4)
    read = synthetic(workload, vocabulary=7)
    tokens = {token for row in read.rows for token in row}
    assert tokens == {2, 3, 4, 5, 6}
    assert read == synthetic(workload, vocabulary=7)
