import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fidkit.config import ReaderConfig
from fidkit.nn.decoder import Decoder
from fidkit.preset import named
from fidkit.reader import Reader
from oracles import batch_of, questions, quick, random_reader, small, stack

GOLDEN = Path(__file__).parents[1] / "golden"
SHARED = {"decoder": stack(4), "cross_attention_every": 2, "self_kv_heads": 1, "cross_kv_heads": 1}


def shapes(module: torch.nn.Module) -> dict[str, list[int]]:
    return {name: list(p.shape) for name, p in module.named_parameters()}


def golden(name: str) -> dict[str, list[int]]:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def test_shapes_of_tiny_fido() -> None:
    with torch.device("meta"):
        reader = Reader(named("tiny-fido"))
    assert shapes(reader) == golden("tiny-fido")


def test_shapes_of_a_multi_query_decoder_that_reads_every_other_layer() -> None:
    config = small(**SHARED)
    assert shapes(Decoder(config, torch.nn.Embedding(37, 16))) == golden("decoder-every-2-multi-query")


def test_a_layer_without_cross_attention_owns_nothing_of_it() -> None:
    names = golden("decoder-every-2-multi-query")
    assert {n.split(".")[1] for n in names if "cross_attention" in n} == {"1", "3"}


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cache_bytes(every: int, heads: int, dtype: torch.dtype) -> None:
    config = small(decoder=stack(6), cross_attention_every=every, self_kv_heads=heads, cross_kv_heads=heads)
    decoder = Decoder(config, torch.nn.Embedding(37, 16)).to(dtype)
    B, M, T = 3, 11, 7
    cache = decoder.start(torch.zeros(B, M, 16, dtype=dtype), torch.ones(B, M, dtype=torch.bool), T)
    assert cache.cross_bytes == (6 // every) * 2 * B * heads * M * 6 * dtype.itemsize
    assert cache.self_keys.nbytes + cache.self_values.nbytes == 6 * 2 * B * heads * T * 6 * dtype.itemsize
    assert [pair is not None for pair in cache.cross] == [(n + 1) % every == 0 for n in range(6)]


@quick
@given(
    examples=questions(),
    every=st.integers(1, 2),
    own=st.sampled_from([1, 2, 4]),
    cross=st.sampled_from([1, 2, 4]),
)
def test_step_by_step_is_teacher_forcing(examples, every: int, own: int, cross: int) -> None:
    config = small(cross_attention_every=every, self_kv_heads=own, cross_kv_heads=cross)
    reader, batch = random_reader(config), batch_of(examples)
    context = reader.read(batch)
    expected = reader.decode(batch.labels, context)
    real = batch.labels != -100
    ids = batch.labels.masked_fill(~real, 0)
    cache = reader.start(context, ids.shape[1])
    last, steps = torch.zeros(len(ids), dtype=torch.long), []
    for position in range(ids.shape[1]):
        steps.append(reader.step(last, cache))
        last = ids[:, position]
    torch.testing.assert_close(torch.stack(steps, 1)[real], expected[real], atol=1e-5, rtol=1e-4)


def test_probe_sees_the_layers_that_read() -> None:
    reader: Reader = random_reader(small(**SHARED))
    batch = batch_of([([3], [[5, 6], [7]], [9, 1])])
    seen: dict[int, torch.Size] = {}
    reader.decode(batch.labels, reader.read(batch), lambda layer, scores: seen.update({layer: scores.shape}))
    assert seen == {1: (1, 4, 2, 5), 3: (1, 4, 2, 5)}


def test_every_decoder_layer_reads_in_fid() -> None:
    config: ReaderConfig = small()
    assert config.cross_layers == (True, True)
