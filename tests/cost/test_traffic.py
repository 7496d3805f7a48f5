"""Bytes of caches against the caches themselves; traffic and intensities against the papers' arithmetic."""

import pytest
import torch
from hypothesis import given

from cost.points import batch_of, configs, few, workloads
from fidkit.config import ReaderConfig
from fidkit.cost import (
    Workload,
    cross_cache_bytes,
    list_parts,
    paper_intensities,
    self_cache_bytes,
    step_bytes,
    step_weight_bytes,
)
from fidkit.cost.store import store_bytes
from fidkit.preset import PRESETS, named
from fidkit.reader import Reader
from fidkit.records import bytes_per_token

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("tiny-")])
def test_cache_bytes_are_those_of_the_cache(name: str, dtype: str) -> None:
    caches_agree(
        named(name).replace(vocabulary_size=50),
        Workload(2, 3, passage_tokens=(5, 11, 7), question_tokens=4, output_tokens=6, beams=2, dtype=dtype),
    )


@few
@given(configs(), workloads())
def test_cache_bytes_are_those_of_the_cache_anywhere_in_the_space(
    point: ReaderConfig, workload: Workload
) -> None:
    caches_agree(point, workload)


def caches_agree(point: ReaderConfig, workload: Workload) -> None:
    reader = Reader(point).eval().to(DTYPES[workload.dtype])
    with torch.no_grad():
        cache = reader.start(reader.read(batch_of(workload)), workload.output_tokens, workload.beams)
    assert cache.cross_bytes == cross_cache_bytes(point, workload)
    assert cache.self_keys.nbytes + cache.self_values.nbytes == self_cache_bytes(point, workload)


@pytest.mark.parametrize(
    ("name", "megabytes"),
    [
        ("fid-base", 377.5),
        ("fid-lsa-base", 62.9),
        ("fido-base-base", 5.24),
        ("fido-base-xl", 10.5),
        ("fido-large-xxl", 10.5),
        ("fid-large", 1006.6),
    ],
)
def test_cross_cache_of_40_passages_of_256_vectors(name: str, megabytes: float) -> None:
    assert cross_cache_bytes(named(name), Workload()) / 1e6 == pytest.approx(megabytes, rel=0.002)


def test_a_step_moves_weights_and_caches() -> None:
    """At one question little else is moved."""
    workload = Workload()
    for name in ("fid-base", "fid-lsa-base", "fido-base-base", "fido-base-xl"):
        point = named(name)
        caches = cross_cache_bytes(point, workload) + self_cache_bytes(point, workload) / 2
        expected = step_weight_bytes(point, workload) + caches
        assert step_bytes(point, workload) == pytest.approx(expected, rel=0.01)
        assert step_bytes(point, workload) > expected


def test_norms_and_activations_of_a_step_are_not_counted_as_moved() -> None:
    """They are free when fused; with many questions and short contexts they would be much."""
    point, workload = named("fido-base-base"), Workload(questions=512, passages=1)
    steps = [p for p in list_parts(point, workload) if p.stage in ("decode", "head")]
    fused = sum(p.bytes for p in steps if p.kind == "elementwise")
    every = sum(p.bytes for p in steps)
    assert fused > 0.2 * every
    assert step_bytes(point, workload) * workload.output_tokens == pytest.approx(every - fused)


def test_weights_are_read_once_a_step_and_caches_once_a_question() -> None:
    point = named("fido-base-base")
    one, many = Workload(), Workload(questions=24)
    weights = step_weight_bytes(point, one)
    assert weights == step_weight_bytes(point, many)
    assert weights / 1e6 == pytest.approx(198, rel=0.01)
    assert (step_bytes(point, many) - weights) == pytest.approx(24 * (step_bytes(point, one) - weights))
    assert step_bytes(point, one.replace(beams=16)) < 1.15 * step_bytes(point, one)


def test_int8_halves_what_a_step_of_a_large_decoder_moves() -> None:
    half, int8 = (step_bytes(named("fido-base-xl"), Workload(decoder_dtype=d)) for d in (None, "int8"))
    assert int8 / half == pytest.approx(0.5, rel=0.02)


def test_the_projection_reads_the_context_once_and_writes_the_cache() -> None:
    for name in ("fid-base", "fido-base-xl"):
        projection, layout = [p for p in list_parts(named(name), Workload()) if p.stage == "projection"]
        context = 40 * 256 * 768 * 2
        assert projection.bytes == pytest.approx(
            context + cross_cache_bytes(named(name), Workload()), rel=0.1
        )
        assert projection.bytes > context + cross_cache_bytes(named(name), Workload())

        assert (layout.kind, layout.flops) == ("elementwise", 0)
        assert layout.bytes == 2 * cross_cache_bytes(named(name), Workload())


def test_an_encoder_in_8_bits_reads_half_the_weights() -> None:
    """And a scale of 4 bytes an output; activations are moved in bfloat16 as before."""
    half, int8 = (list_parts(named("fid-base"), Workload(encoder_dtype=d)) for d in (None, "int8"))
    moved = [sum(p.bytes for p in parts if p.stage == "live") for parts in (half, int8)]
    weights, outputs = 12 * (4 * 768 * 768 + 3 * 768 * 2048), 12 * (5 * 768 + 2 * 2048)
    assert moved[0] - moved[1] == weights - 4 * outputs
    steps = [sum(p.bytes for p in parts if p.stage in ("decode", "head")) for parts in (half, int8)]
    assert steps[0] == steps[1]


@pytest.mark.parametrize(("encoder_dtype", "copied"), [(None, True), ("int8", False), ("float32", False)])
def test_keys_and_values_are_copied_where_a_matrix_library_makes_them(encoder_dtype, copied: bool) -> None:
    fid, workload = named("fid-base"), Workload(encoder_dtype=encoder_dtype)
    assert any(p.name == "layout" for p in list_parts(fid, workload)) == copied
    assert not any(p.name == "layout" for p in list_parts(fid, workload, training=True))


def test_training_reads_weights_once() -> None:
    generating, training = (
        sum(p.bytes for p in list_parts(named("fido-base-xl"), Workload(), training=t) if p.stage == "decode")
        for t in (False, True)
    )
    assert training < generating / 20


def test_intensities_are_the_papers() -> None:
    found = paper_intensities(named("fid-base"), Workload(questions=24))
    b, d, h, n_t, n_s = 24, 768, 12, 32, 40 * 256
    assert found.feed_forward == pytest.approx(1 / (1 / b + 1 / d))
    assert found.self_attention == pytest.approx(1 / (1 / b + n_t / d))
    assert found.cross_attention == pytest.approx(1 / (1 / b + n_s / d))
    assert found.cross_attention_multi_query == pytest.approx(1 / (1 / b + 1 / d + n_s / (d * h)))
    assert found.cross_attention_sparse == found.cross_attention
    sparse = paper_intensities(named("fido-base-base"), Workload(questions=24))
    assert sparse.cross_attention_sparse == pytest.approx(1 / (1 / b + n_s / 6 / d))
    assert sparse.cross_attention_sparse_multi_query == pytest.approx(1 / (1 / b + 1 / d + n_s / 6 / (d * h)))


def test_intensity_counts_vectors_that_the_decoder_sees() -> None:
    workload = Workload(questions=24)
    full, light = (paper_intensities(named(name), workload) for name in ("fid-base", "fid-light-base"))
    assert light.cross_attention > 5 * full.cross_attention


@pytest.mark.parametrize(("codec", "size"), [("float32", 16384), ("bf16", 8192), ("int8", 4098), ("pq", 512)])
def test_bytes_of_a_stored_token_at_xxl(codec: str, size: int) -> None:
    """MEMORY-VQ's sizes: 8 KB a token, and 16 times less."""
    assert bytes_per_token(named("lumen-xxl").memory_width, codec) == size


@few
@given(configs(), workloads())
def test_stored_bytes_are_those_of_the_memory(point: ReaderConfig, workload: Workload) -> None:
    """As wide as the memory encoder, before any projection."""
    if not point.memory_layers:
        return
    batch = batch_of(workload)
    with torch.no_grad():
        memory = Reader(point).encode_passages(batch.passage_ids, batch.passage_lengths)
    tokens = workload.questions * sum(workload.lengths)
    assert store_bytes(point, tokens, "bf16") == memory.bfloat16().nbytes
    [fetch] = [p for p in list_parts(point, workload.replace(memory="bf16")) if p.kind == "fetch"]
    assert fetch.bytes == memory.bfloat16().nbytes
