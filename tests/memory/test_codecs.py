import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fidkit.errors import MemoryStoreError, UsageError
from fidkit.memory import CODECS, make_codec
from fidkit.memory.codecs import record_bytes
from fidkit.memory.pq import PQ, load_pq, train_pq
from fidkit.preset import named
from fidkit.records import bytes_per_token
from oracles import quick


@st.composite
def memories(draw, most: float = 3e38) -> torch.Tensor:
    """[X, D] of any finite numbers, tokens of nothing but zeros and tiny ones among them."""
    tokens, width = draw(st.integers(0, 5)), draw(st.integers(1, 40))
    seed, exponents = draw(st.integers(0, 99)), st.sampled_from([-45, -38, -20, -3, 0, 2, 9, 38])
    random = torch.rand(tokens, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    scales = torch.tensor([10.0 ** draw(exponents) for _ in range(tokens)], dtype=torch.float64)
    zero = torch.tensor([draw(st.integers(0, 4)) > 0 for _ in range(tokens)])
    return ((random * 6 - 3) * scales[:, None] * zero[:, None]).clamp(-most, most).float()


def test_the_cost_model_knows_every_codec_and_its_bytes(tmp_path):
    for name in ("tiny-lumen", "lumen-base", "lumen-xxl"):
        width = named(name).encoder.width
        PQ(torch.zeros(-(-width // 16), 2, 16), width).save(tmp_path)
        for codec in CODECS:
            assert record_bytes(make_codec(codec, width, tmp_path)) == bytes_per_token(width, codec)


@quick
@given(memories())
def test_float32_is_the_same_bit_for_bit(memory):
    codec = make_codec("float32", memory.shape[1])
    decoded = codec.decode(codec.encode(memory), torch.float32)
    assert torch.equal(decoded.view(torch.int32), memory.view(torch.int32))


@quick
@given(memories())
def test_bf16_is_the_nearest(memory):
    codec = make_codec("bf16", memory.shape[1])
    decoded = codec.decode(codec.encode(memory), torch.float32)
    # Neither neighbour is nearer: 8 bits of significand, so half a step is 2^-9 of the next power of two.
    bits = decoded.view(torch.int32)
    for step in (-(1 << 16), 1 << 16):
        other = (bits + step).view(torch.float32)
        nearer = (other - memory).abs() < (decoded - memory).abs()
        assert not (nearer & (other.sign() == decoded.sign())).any()
    normal = memory.abs() > 2**-126
    assert ((decoded - memory).abs() <= memory.abs() * 2.0**-8)[normal].all()


@quick
@given(memories())
def test_int8_errs_by_half_a_scale_at_most(memory):
    codec = make_codec("int8", memory.shape[1])
    records = codec.encode(memory)
    values, scales = (
        records[:, :-2],
        records[:, -2:].clone(memory_format=torch.contiguous_format).view(torch.bfloat16).double(),
    )
    largest = memory.double().abs().amax(1, keepdim=True)
    assert values.abs().max().item() <= 127 if len(memory) else True
    # The scale is not below what keeps the largest value in range, and hardly above.
    assert (scales * 127 >= largest * (1 - 2**-23)).all()
    assert (scales <= (largest / 127 * (1 + 2**-7)).clamp(min=2.0**-126)).all()
    decoded = codec.decode(records, torch.float32)
    assert ((decoded.double() - memory.double()).abs() <= scales * (0.5 + 2**-15)).all()


@quick
@given(memories())
def test_int8_in_bf16_is_int8_in_float32_rounded_once(memory):
    codec = make_codec("int8", memory.shape[1])
    records = codec.encode(memory)
    assert torch.equal(codec.decode(records, torch.bfloat16), codec.decode(records, torch.float32).bfloat16())


def test_plain_records_of_the_wanted_dtype_are_not_copied():
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        records = torch.randn(3, 8).to(dtype)
        assert make_codec(name, 8).decode(records, dtype) is records


@pytest.mark.parametrize("name", ["float32", "bf16", "int8", "pq"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 3.3e38])
def test_what_is_no_finite_number_is_refused(name, bad, tmp_path):
    PQ(torch.zeros(1, 2, 16), 8).save(tmp_path)
    memory = torch.ones(3, 8)
    memory[1, 2] = bad
    with pytest.raises(MemoryStoreError, match="no finite numbers"):
        make_codec(name, 8, tmp_path).encode(memory)


@pytest.mark.gpu
@pytest.mark.parametrize("name", CODECS)
def test_a_gpu_makes_the_same_records_and_the_same_memory(name, tmp_path):
    memory = torch.randn(50, 40)
    train_pq(memory, codes=40).save(tmp_path)
    codec = make_codec(name, 40, tmp_path)
    records = codec.encode(memory)
    assert torch.equal(codec.encode(memory.cuda()).cpu(), records)
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.equal(codec.decode(records.cuda(), dtype).cpu(), codec.decode(records, dtype))


def test_an_unknown_codec_lists_the_known():
    with pytest.raises(UsageError, match="codec is 'zip'; choose one of float32, bf16, int8, pq"):
        make_codec("zip", 8)


# Product quantisation


def test_pq_decodes_to_the_nearest_code_of_each_subspace():
    generator = torch.Generator().manual_seed(1)
    books, memory = torch.randn(3, 20, 16, generator=generator), torch.randn(50, 40, generator=generator)
    books[2, :, 8:] = 0  # only 8 of the last 16 dimensions exist
    decoded = PQ(books, 40).decode(PQ(books, 40).encode(memory), torch.float32)
    for token, vector in zip(memory, decoded, strict=True):
        padded = torch.cat([token, torch.zeros(8)]).view(3, 16)
        expected = [min(book, key=lambda code: float((code - part).square().sum()))
                    for book, part in zip(books, padded, strict=True)]  # fmt: skip
        assert torch.equal(vector, torch.cat(expected)[:40])


def test_pq_with_a_code_for_every_vector_loses_nothing():
    memory = torch.randn(30, 40).bfloat16().float()
    codec = train_pq(memory, codes=30, seed=3)
    assert codec.encode(memory).dtype == torch.uint16
    assert torch.equal(codec.decode(codec.encode(memory), torch.float32), memory)


def test_pq_numbers_of_codes_use_both_bytes_in_full():
    books = torch.randn(2, 1 << 16, 16)
    numbers = [0, 1, 255, 256, 32767, 32768, 65535]
    memory = books[:, numbers].transpose(0, 1).reshape(-1, 32)
    codec = PQ(books, 32)
    assert codec.encode(memory)[:, 1].tolist() == numbers
    assert torch.equal(codec.decode(codec.encode(memory), torch.float32), memory)


def test_more_codes_err_less_and_the_seed_decides():
    generator = torch.Generator().manual_seed(2)
    sample, memory = (torch.randn(tokens, 32, generator=generator) for tokens in (4000, 1000))
    errors = []
    for codes in (1, 8, 64, 256):
        codec = train_pq(sample, codes=codes, seed=5)
        assert codec.fingerprint == train_pq(sample, codes=codes, seed=5).fingerprint
        errors.append(float((codec.decode(codec.encode(memory), torch.float32) - memory).square().mean()))
    assert errors == sorted(errors, reverse=True)
    # One code is the mean of all. 8 bits for 16 normal dimensions leave half the variance at the very best.
    assert errors[0] == pytest.approx(float(memory.var(0, correction=0).mean()), rel=0.02)
    assert 0.5 < errors[-1] < 0.65
    assert train_pq(sample, codes=8, seed=6).fingerprint != train_pq(sample, codes=8, seed=5).fingerprint


def test_codebooks_come_back_as_they_were(tmp_path):
    codec = train_pq(torch.randn(100, 24), codes=9, seed=0)
    codec.save(tmp_path)
    again = load_pq(tmp_path, 24)
    assert again.fingerprint == codec.fingerprint
    assert np.array_equal(again.codebooks, codec.codebooks)
    assert [path.name for path in tmp_path.iterdir()] == ["codec.safetensors"]
    packed = (tmp_path / "codec.safetensors").read_bytes()
    assert again.save(tmp_path / "again").read_bytes() == packed


def test_codebooks_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(MemoryStoreError, match="found none; build the memory again"):
        make_codec("pq", 24, tmp_path)
    path = train_pq(torch.randn(100, 24), codes=9).save(tmp_path)
    with pytest.raises(MemoryStoreError, match="for vectors of width 24, not 32"):
        make_codec("pq", 32, tmp_path)
    packed = bytearray(path.read_bytes())
    packed[-3] ^= 4
    path.write_bytes(packed)
    with pytest.raises(MemoryStoreError, match="not those that were written"):
        make_codec("pq", 24, tmp_path)
    path.write_bytes(packed[:-3])
    with pytest.raises(MemoryStoreError, match="can't be read as codebooks"):
        make_codec("pq", 24, tmp_path)


@pytest.mark.parametrize(
    ("codes", "message"),
    [(11, "11 codes from a sample of 10 tokens"), (0, "expected 1 to 65,536"), (65537, "65,537 codes")],
)
def test_impossible_numbers_of_codes_are_said(codes, message):
    with pytest.raises(UsageError, match=message):
        train_pq(torch.randn(10, 16), codes=codes)


@pytest.mark.parametrize("codec", ["float32", "bf16", "int8", "pq"])
def test_without_tensors_the_same_comes_back(codec: str, tmp_path) -> None:
    memory = torch.randn(200, 24)
    made = train_pq(memory, codes=40) if codec == "pq" else make_codec(codec, 24)
    records = made.encode(memory)
    arrays = (records.view(torch.uint16) if records.dtype == torch.bfloat16 else records).numpy()
    assert np.array_equal(made.decode(arrays), made.decode(records, torch.float32).numpy())
    assert made.decode(arrays).dtype == np.float32
