"""Peers in 8 bits compute what transformers' T5 computes: exactly so in float32, nearly so rounded."""

import importlib
from pathlib import Path

import pytest
import torch

from bench.toy import CPU, RAGGED
from fidkit.bench.questions import Questions
from fidkit.bench.t5_fid import plain_fid, random_t5
from fidkit.cost import Workload
from fidkit.preset import PRESETS
from oracles import small, stack

pytest.importorskip("transformers")
pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from fidkit.bench.hf_fid import HfFid  # noqa: E402
from fidkit.bench.onnxruntime_fid import OnnxRuntimeFid  # noqa: E402

# Wide enough for scales of 8 bits to be typical; more tokens than buckets, and than the largest distance.
STACK = stack(3, width=64, heads=4, head_width=16, feed_forward=96)
LIKE = small(encoder=STACK, decoder=STACK, vocabulary_size=64)
LONG = Questions([[5, 6, 7]], [[list(range(2, 40)), list(range(10, 22))]])
STACK_V1_0 = STACK.model_copy(update={"family": "t5"})
V1_0 = LIKE.model_copy(update={"encoder": STACK_V1_0, "decoder": STACK_V1_0, "tied_head": True})
LIKES = pytest.mark.parametrize("like", [LIKE, V1_0], ids=["v1.1 untied", "v1.0 tied"])
ASKED = pytest.mark.parametrize("asked", [RAGGED, LONG], ids=["two questions", "one question"])
PEERS = pytest.mark.parametrize(
    ("package", "module", "name"),
    [
        ("onnxruntime", "onnxruntime_fid", "OnnxRuntimeFid"),
        ("ctranslate2", "ctranslate2_fid", "CTranslate2Fid"),
        ("nncf", "openvino_fid", "OpenVinoFid"),
    ],
)


def model_of(like):
    """Random weights whose norms aren't 1 and whose biases of positions matter."""
    model = random_t5(plain_fid(like), torch.float32, CPU)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "layer_norm" in name:
                p.uniform_(0.5, 1.5, generator=generator)
            if "relative_attention_bias" in name:
                p.normal_(generator=generator)
    return model


def as_it_is(path: Path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def hf(like, asked: Questions) -> HfFid:
    peer = HfFid("hf", like, "float32", CPU, "eager", model_of(like))
    peer.prepare(asked)
    peer.encode()
    return peer


@LIKES
@ASKED
@torch.inference_mode()
def test_graphs_in_float32_are_transformers(like, asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fidkit.bench.onnxruntime_fid.int8_session", as_it_is)
    peer = OnnxRuntimeFid(like, CPU, model_of(like))
    peer.prepare(asked)
    assert peer.decoder.masked == (asked is RAGGED)
    peer.encode()
    expected = hf(like, asked)
    torch.testing.assert_close(peer.fused_BMD, expected.fused_BMD, rtol=1e-4, atol=1e-4)
    found = peer.decode(20)
    assert torch.equal(found, expected.decode(20))
    assert torch.equal(peer.decode(2), found[:, :2])
    # What a tied head of random weights reads is the token that was written last.
    assert like.tied_head or len(set(found.flatten().tolist())) > 2
    assert peer.encoder_error() < 1e-5


@PEERS
@LIKES
@ASKED
@torch.inference_mode()
def test_rounded_states_are_as_near_as_it_says(package: str, module: str, name: str, like, asked) -> None:
    pytest.importorskip(package)
    make = getattr(importlib.import_module(f"fidkit.bench.{module}"), name)
    model = model_of(like)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    peer = make(like, CPU, model)
    peer.prepare(asked)
    peer.warm_up(4)
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())
    error = peer.encoder_error()
    assert 1e-3 < error < 0.15
    peer.encode()
    expected = hf(like, asked)
    right = expected.fused_BMD[0, : peer.rows.mask_BM[0].sum()]
    found = peer.fused_BMD[0, : len(right)]
    assert float((found - right).norm() / right.norm()) == pytest.approx(error, rel=0.5)
    # A step follows from those before it, so that one rounding may change all of them: the first are certain.
    assert peer.decode(6).shape == (len(asked.questions), 6)
    assert torch.equal(peer.decode(2)[:, 0], expected.decode(2)[:, 0])


@PEERS
def test_what_a_row_says(package: str, module: str, name: str) -> None:
    pytest.importorskip(package)
    peer = getattr(importlib.import_module(f"fidkit.bench.{module}"), name)(PRESETS["tiny-fid"], CPU)
    facts = peer.facts
    assert (facts.dtype, facts.preset, facts.reader) == ("int8", None, None)
    assert facts.config["decoder"].startswith("onnxruntime")
    assert peer.name.startswith(facts.config["encoder"].split(",")[0])
    needs = [peer.needs(Workload(passages=n)) for n in (1, 4000)]
    assert needs[0].weights == needs[1].weights > 0
    assert needs[0].working < needs[1].working


def test_peers_of_one_shape_have_the_same_weights() -> None:
    one, other = (random_t5(plain_fid(LIKE), torch.float32, CPU).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
