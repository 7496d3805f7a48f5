"""The peer on transformers' T5 computes what our reader computes from the same weights."""

from pathlib import Path

import pytest
import torch

from bench.toy import CPU, RAGGED
from fidkit.bench.batches import pad_rows
from fidkit.bench.hf_fid import HfCompiled, HfFastest, HfFid
from fidkit.bench.subjects import Ours
from fidkit.bench.t5_fid import plain_fid, random_t5
from fidkit.context import collate
from fidkit.convert import import_t5
from fidkit.cost import Workload, parameters
from fidkit.errors import FidkitError
from fidkit.preset import PRESETS
from oracles import hf_t5, small, stack

transformers = pytest.importorskip("transformers")

FID = small(encoder=stack(2), decoder=stack(2))
TARGET = [12, 30, 4, 9]
ATTENTION = pytest.mark.parametrize("attention", ["sdpa", "eager"])
TIED = pytest.mark.parametrize("tied", [True, False], ids=["v1.0 tied", "v1.1 untied"])


def twins(tied: bool, attention: str, folder: Path, make=HfFid):
    """A peer and our reader with the same weights, float32."""
    hf_t5(tied=tied, layers=3).save_pretrained(folder)
    reader, _ = import_t5(folder)
    model = transformers.T5ForConditionalGeneration.from_pretrained(folder, attn_implementation=attention)
    if make is HfFid:
        peer = HfFid("hf", reader.config, "float32", CPU, attention, model.eval())
    elif make is HfFastest:
        peer = HfFastest("hf", reader.config, "float32", CPU, model.eval())
    else:
        peer = make(reader.config, "float32", CPU, model.eval())
    peer.prepare(RAGGED)
    return peer, reader.eval()


@TIED
@ATTENTION
@torch.inference_mode()
def test_logits_of_the_same_weights_are_ours(tied: bool, attention: str, tmp_path: Path) -> None:
    peer, reader = twins(tied, attention, tmp_path)
    assert peer.model.config._attn_implementation == attention
    peer.encode()
    labels = torch.tensor([TARGET, TARGET[::-1]])
    ours = reader.decode(labels, reader.read(collate(RAGGED.questions, RAGGED.passages)))
    theirs = peer.model(
        encoder_outputs=(peer.fused_BMD,), attention_mask=peer.rows.mask_BM, labels=labels
    ).logits
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)


class Given:
    """Weights that are there already."""

    def __init__(self, reader) -> None:
        self.reader, self.config, self.device = reader, reader.config, CPU


@TIED
@ATTENTION
@torch.inference_mode()
def test_answers_of_the_same_weights_are_ours(tied: bool, attention: str, tmp_path: Path) -> None:
    peer, reader = twins(tied, attention, tmp_path)
    ours = Ours("it", "it", Given(reader), "float32")
    ours.prepare(RAGGED)
    for subject in (peer, ours):
        subject.encode()
    found = peer.decode(9)
    assert torch.equal(found, ours.decode(9))
    assert torch.equal(peer.decode(2), found[:, :2])
    assert len(set(found.flatten().tolist())) > 2


@torch.inference_mode()
def test_an_end_of_sequence_stops_nothing() -> None:
    peer = HfFid("hf", FID, "float32", CPU)
    peer.model = random_t5(peer.config, torch.float32, CPU, "sdpa")
    peer.model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(peer.model.lm_head.weight))
    peer.model.generation_config.eos_token_id = 0  # what zero logits write
    peer.prepare(RAGGED)
    peer.encode()
    assert peer.decode(7).tolist() == [[0] * 7] * 2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_random_weights_have_the_readers_size_and_type(dtype) -> None:
    peer = HfFid("hf", PRESETS["tiny-fid"], dtype, CPU)
    peer.prepare(RAGGED)
    weights = list(peer.model.parameters())
    assert sum(p.numel() for p in weights) == parameters(PRESETS["tiny-fid"])
    assert {p.dtype for p in weights} == {torch.float32 if dtype == "float32" else torch.bfloat16}
    assert peer.model.lm_head.weight is not peer.model.shared.weight
    assert not peer.model.training
    workload = Workload(passages=3, passage_tokens=6, question_tokens=3)
    assert peer.needs(workload).weights == sum(p.nbytes for p in weights)


def test_a_peer_is_plain_fid_of_the_encoders_size() -> None:
    peer = plain_fid(PRESETS["lumen-fido-base-xl"])
    assert peer.encoder == peer.decoder == PRESETS["fid-base"].encoder
    assert peer == PRESETS["fid-base"]


def test_eager_attention_needs_more_memory() -> None:
    needs = [
        HfFid("hf", FID, "bfloat16", CPU, attention).needs(Workload(passages=2)).working
        for attention in ("sdpa", "eager")
    ]
    assert needs[0] < needs[1]


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> list:
    """`torch.compile` that changes nothing; what it was given."""
    given: list = []

    def keep(function, **options):
        given.append(function)
        return function

    monkeypatch.setattr(torch, "compile", keep)
    return given


@torch.inference_mode()
def test_the_fastest_decoder_is_taken(
    uncompiled: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer, reader = twins(True, "sdpa", tmp_path, HfCompiled)
    assert uncompiled == [peer.model.encoder, peer.model.encoder, peer.forward]
    tries: list[str] = []

    def took(run) -> float:
        tries.append(peer.decoder_way)
        return {"sdpa": 3.0, "eager": 1.0, "compiled": 2.0}[peer.decoder_way]

    monkeypatch.setattr(peer, "took", took)
    peer.encode()
    peer.choose_decoder(4)
    assert list(dict.fromkeys(tries)) == ["sdpa", "eager", "compiled"]
    assert peer.facts.config["decoder"] == "eager"
    assert peer.facts.config["decoder_tried_ms"] == {"sdpa": 3.0, "eager": 1.0, "compiled": 2.0}
    ours = Ours("it", "it", Given(reader), "float32")
    ours.prepare(RAGGED)
    ours.encode()
    for way in peer.DECODERS:
        peer.use_decoder(way)
        assert torch.equal(peer.decode(6), ours.decode(6)), way
    assert peer.model.encoder.config._attn_implementation == "sdpa"
    assert peer.model.decoder.config._attn_implementation == "eager"


def test_a_compiler_that_fails_is_one_line(uncompiled: list, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = HfCompiled(FID, "float32", CPU)
    peer.prepare(RAGGED)

    def fail() -> None:
        raise torch._dynamo.exc.TorchDynamoException("no c++\nmore of it")

    monkeypatch.setattr(peer, "run_batch", lambda batch: fail())
    with pytest.raises(FidkitError, match=r"torch\.compile failed: no c\+\+; install"):
        peer.warm_up(4)


@torch.inference_mode()
def test_the_fastest_way_to_encode_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peer, _ = twins(False, "sdpa", tmp_path, HfFastest)
    times = {("sdpa", 1): 5.0, ("sdpa", 2): 4.0, ("sdpa", 6): 3.0}
    times |= {("eager", 1): 6.0, ("eager", 2): 1.0, ("eager", 6): 2.0}
    monkeypatch.setattr(peer, "took", lambda run: times[peer.way, peer.size])
    peer.choose_encoder()
    assert (peer.way, peer.size) == ("eager", 2)
    assert peer.model.encoder.config._attn_implementation == "eager"
    assert peer.choices["encoder_tried_ms"] == {f"{way} x {size}": ms for (way, size), ms in times.items()}
    assert [len(batch.rows) for batch in peer.rows.batches] == [2, 2, 2]


@torch.inference_mode()
def test_a_try_that_takes_long_is_the_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peer, _ = twins(False, "sdpa", tmp_path, HfFastest)
    tries: list[tuple] = []

    def took(run) -> float:
        tries.append((peer.way, peer.size))
        return 6000.0 if peer.way == "sdpa" else 10.0

    monkeypatch.setattr(peer, "took", took)
    peer.choose_encoder()
    once = [("sdpa", size) for size in (1, 2, 6)]
    assert tries == once + [("eager", size) for size in (1, 2, 6) for _ in range(2)]


@TIED
@torch.inference_mode()
def test_sorted_sub_batches_change_nothing(tied: bool, tmp_path: Path) -> None:
    peer, _ = twins(tied, "sdpa", tmp_path)
    found = []
    for size in (1, 2, 4, 6):
        peer.use_size(size)
        peer.encode()
        found.append((peer.fused_BMD, peer.decode(6)))
    ids, mask = pad_rows(RAGGED.rows, 0, CPU)
    states = peer.model.encoder(ids, mask).last_hidden_state
    for question in (0, 1):
        rows = range(3 * question, 3 * question + 3)
        expected = torch.cat([states[row, : len(RAGGED.rows[row])] for row in rows])
        for fused_BMD, written in found:
            torch.testing.assert_close(fused_BMD[question, : len(expected)], expected, rtol=1e-5, atol=1e-5)
            assert torch.equal(written, found[0][1])


@pytest.mark.parametrize(("dtype", "least", "most"), [("float32", 0.0, 1e-5), ("bfloat16", 1e-4, 0.05)])
@torch.inference_mode()
def test_the_encoders_error_is_against_float32(dtype, least: float, most: float) -> None:
    peer = HfFid("hf", PRESETS["tiny-fid"], dtype, CPU)
    peer.prepare(RAGGED)
    error = peer.encoder_error()
    assert least <= error <= most
    peer.encoder = lambda **given: scaled(peer.model.encoder(**given))
    assert peer.encoder_error() == pytest.approx(0.5, abs=0.05)


def scaled(outputs):
    outputs.last_hidden_state = 1.5 * outputs.last_hidden_state
    return outputs


@torch.inference_mode()
def test_without_room_for_float32_there_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fidkit.bench.encoder_error.available_bytes", lambda device: 1000)
    peer = HfFid("hf", PRESETS["tiny-fid"], "bfloat16", CPU)
    peer.prepare(RAGGED)
    assert peer.encoder_error() is None


@pytest.mark.slow
@torch.inference_mode()
def test_compiled_for_real(tmp_path: Path) -> None:
    peer, reader = twins(False, "sdpa", tmp_path, HfCompiled)
    peer.warm_up(4)
    assert peer.encoder_error() < 1e-4
    ours = Ours("it", "it", Given(reader), "float32")
    ours.prepare(RAGGED)
    ours.encode()
    for way in peer.DECODERS:
        peer.use_decoder(way)
        assert torch.equal(peer.decode(6), ours.decode(6)), way
