"""Parameters and their bytes, against the reader itself."""

import re

import pytest
import torch

from fidkit.config import ReaderConfig
from fidkit.cost import Workload, parameters, weight_bytes
from fidkit.cost.weights import SCALE_BYTES, Matrix, stage_weights
from fidkit.preset import TINY, named
from fidkit.reader import Reader

WIDER = {"layers": 5, "width": 40, "heads": 2, "head_width": 10, "feed_forward": 30}
OF_STAGE = {
    "embedding": ("embedding.", "decoder.embedding."),
    "memory": ("memory_encoder.",),
    "question": ("question_encoder.",),
    "join": ("memory_projection.", "reranker."),
    "live": ("live_encoder.",),
    "head": ("head.",),
}


def stage_of(name: str) -> str:
    for stage, prefixes in OF_STAGE.items():
        if name.startswith(prefixes):
            return stage
    return "projection" if re.search(r"cross_attention\.(key|value)\.", name) else "decoder"


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"live_layers": 0},
        {"live_layers": 2},
        {"live_layers": 2, "memory_encoder": WIDER, "rerank": {"after": 1, "keep": 3}},
        {"memory_encoder": {**WIDER, "width": 32}},
        {"tied_head": True, "block": "t5"},
        {"encoder": {**TINY.model_dump(), "family": "bert"}, "live_layers": 1},
        {"block": "bert", "live_layers": 2, "memory_encoder": WIDER, "shared_embedding": False},
        {"block": "umt5", "live_layers": 1, "cross_attention_every": 2},
        {"block": "mpnet", "live_layers": 2, "shared_embedding": False},
        {"shared_embedding": False, "cross_attention_every": 2, "cross_kv_heads": 2},
    ],
)
def test_every_stage_owns_what_its_module_owns(changed: dict[str, object]) -> None:
    point: ReaderConfig = named("tiny-fid").replace(**changed)
    with torch.device("meta"):
        reader = Reader(point)
    found: dict[str, int] = dict.fromkeys([*OF_STAGE, "projection", "decoder"], 0)
    for parameter_name, parameter in reader.named_parameters():
        found[stage_of(parameter_name)] += parameter.numel()
    assert {stage: owned.parameters for stage, owned in stage_weights(point).items()} == found


def test_bytes_follow_the_dtype() -> None:
    fid = named("fid-base")
    single, half = (
        sum(weight_bytes(fid, Workload(dtype=dtype)).values()) for dtype in ("float32", "bfloat16")
    )
    assert single == 2 * half == 4 * parameters(fid)


def test_int8_is_for_the_decoder_alone() -> None:
    fid = named("fid-base")
    half, int8 = (weight_bytes(fid, Workload(decoder_dtype=dtype)) for dtype in (None, "int8"))
    changed = {stage for stage in half if half[stage] != int8[stage]}
    assert changed == {"decoder", "head"}
    matrix = Matrix(768, 32128)
    assert int8["head"] == matrix.parameters + SCALE_BYTES * matrix.outputs
    assert int8["decoder"] / half["decoder"] == pytest.approx(0.5, rel=0.01)


def test_a_tied_head_is_no_further_matrix() -> None:
    pocket = named("pocket-fid")
    assert pocket.tied_head
    assert weight_bytes(pocket, Workload(decoder_dtype="int8"))["head"] == 0
