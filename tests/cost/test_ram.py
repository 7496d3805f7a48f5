"""What fits: against the paper's order, and as properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost.points import configs, few, workloads
from fidkit.config import ReaderConfig
from fidkit.cost import (
    Workload,
    batch_bytes,
    cross_cache_bytes,
    find_hardware,
    largest,
    largest_batch,
)
from fidkit.preset import named


@few
@given(configs(), workloads(), st.integers(0, 2_000_000))
def test_the_largest_batch_fits_and_one_more_does_not(
    point: ReaderConfig, workload: Workload, available: int
) -> None:
    most = largest_batch(point, workload, available)
    if most:
        assert batch_bytes(point, workload.replace(questions=most)).total <= available
    assert batch_bytes(point, workload.replace(questions=most + 1)).total > available


@few
@given(configs(), workloads())
def test_memory_grows_with_everything(point: ReaderConfig, workload: Workload) -> None:
    least = batch_bytes(point, workload).total
    longer = tuple(length + 5 for length in workload.lengths)
    for changes in (
        {"questions": workload.questions + 1},
        {"passage_tokens": longer},
        {"passages": workload.passages + 1, "passage_tokens": (*workload.lengths, 5)},
        {"output_tokens": workload.output_tokens + 1},
        {"beams": workload.beams + 1},
    ):
        assert batch_bytes(point, workload.replace(**changes)).total >= least


def test_batches_on_a_tpu_are_in_the_order_of_the_paper() -> None:
    """FiDO table 1, TPUv4: 24, 128, 256, and 128 with the XL decoder."""
    usable = find_hardware("tpuv4").usable_bytes
    fid, lsa, fido, wide = (
        largest_batch(named(name), Workload(), usable)
        for name in ("fid-base", "fid-lsa-base", "fido-base-base", "fido-base-xl")
    )
    assert 24 <= fid < lsa < fido
    assert fid < wide < fido


def test_stored_memory_makes_room() -> None:
    stored, computed = (
        batch_bytes(named("memoryfid-base"), Workload(memory=m)) for m in ("bf16", "computed")
    )
    assert stored.reading < computed.reading
    assert (
        stored.cross_cache == computed.cross_cache == cross_cache_bytes(named("memoryfid-base"), Workload())
    )


@pytest.mark.parametrize("available", [0, 1000])
def test_nothing_fits_into_nothing(available: int) -> None:
    assert largest_batch(named("tiny-fid"), Workload(), available) == 0


def test_a_machine_that_packs_matrices_needs_those_of_products_twice() -> None:
    stored, computed = (Workload(memory=m) for m in ("bf16", "computed"))
    fid, lumen = named("fid-base"), named("lumen-base")
    encoder, cross = 12 * (4 * 768 * 768 + 3 * 768 * 2048), 12 * 2 * 768 * 768
    assert batch_bytes(fid, stored).packed == 0
    assert batch_bytes(fid, stored, packs=True).packed == 2 * (encoder + cross)
    scales = 4 * 12 * (5 * 768 + 2 * 2048 + 2 * 768)
    eight = stored.replace(encoder_dtype="int8")
    assert batch_bytes(fid, eight, packs=True).packed == encoder + cross + scales
    assert batch_bytes(fid, eight).total == batch_bytes(fid, stored).total
    assert batch_bytes(fid, stored, packs=True).total == batch_bytes(fid, stored).total + 2 * (
        encoder + cross
    )
    # The question encoder has as many layers as the memory encoder, which runs where nothing is stored.
    memory_encoder = encoder * lumen.memory_layers // 12
    with_store, without = (batch_bytes(lumen, w, packs=True).packed for w in (stored, computed))
    assert without == with_store + 2 * memory_encoder
    just_enough = batch_bytes(fid, stored).total
    assert largest_batch(fid, stored, just_enough) == 1
    assert largest_batch(fid, stored, just_enough, packs=True) == 0


def test_reranking_makes_room_for_more_questions() -> None:
    usable = find_hardware("h200").usable_bytes
    lumen, glimmer = (
        largest_batch(named(f"{name}-base"), Workload(), usable) for name in ("lumen", "glimmer")
    )
    assert glimmer > lumen


@given(most=st.integers(0, 300), below=st.none() | st.integers(0, 300))
def test_the_largest_is_that_of_a_linear_scan(most: int, below: int | None) -> None:
    tried: list[int] = []

    def fits(number: int) -> bool:
        tried.append(number)
        return number <= most

    found = largest(fits, below)
    assert found == (most if below is None else max(0, min(most, below - 1)))
    assert len(tried) == len(set(tried)) <= 2 * max(1, found).bit_length() + 1
    assert all(1 <= number <= max(1, 2 * found) and (below is None or number < below) for number in tried)
