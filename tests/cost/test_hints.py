"""Hints: neighbours in the space, by predicted time."""

import pytest

from fidkit.cost import HARDWARE, Workload, best, predict, suggest
from fidkit.preset import PRESETS, SIZES, named

H200 = HARDWARE["h200"]


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_reader_has_neighbours_and_the_fastest_is_first(name: str) -> None:
    found = suggest(PRESETS[name], Workload(), H200, SIZES)
    assert found
    gains = [hint.gain for hint in found]
    assert gains == sorted(gains, reverse=True)
    assert all(hint.price and hint.change for hint in found)


def test_a_gain_is_the_ratio_of_predicted_times() -> None:
    workload = Workload(questions=24)
    found = {hint.knob: hint for hint in suggest(named("fid-base"), workload, H200)}
    sparse = predict(named("fid-lsa-base"), workload, H200)
    before = predict(named("fid-base"), workload, H200)
    hint = found["cross_attention_every"]
    assert hint.ms_per_question == pytest.approx(sparse.ms_per_question)
    assert hint.gain == pytest.approx(before.ms_per_question / sparse.ms_per_question)
    assert "-0.7 NQ" in hint.price


def test_the_papers_knobs_come_first_where_the_paper_says_so() -> None:
    """FiD's decoder is what costs: multi-query, and sparse cross-attention as much as FiD-Light."""
    workload = Workload(questions=24)
    gain = {h.knob: h.gain for h in best(suggest(named("fid-base"), workload, H200), most=99)}
    assert gain["kv_heads"] > gain["cross_attention_every"] > 1.5
    assert gain["cross_attention_every"] == pytest.approx(gain["kept_vectors"], rel=0.02)
    assert gain["decoder_dtype"] < 1.05
    # Afterwards the encoder costs: reading less is what is left.
    then = best(suggest(named("fido-base-base"), Workload(questions=24), H200))
    assert {hint.knob for hint in then[:2]} == {"live_layers", "passages"}


def test_the_best_are_of_different_knobs_and_faster() -> None:
    found = suggest(named("fid-xl"), Workload(), H200, SIZES)
    assert sum(hint.knob == "kv_heads" for hint in found) == 2  # one and eight heads
    chosen = best(found, most=99)
    assert len({hint.knob for hint in chosen}) == len(chosen)
    assert all(hint.gain > 1 for hint in chosen)
    assert len(best(found)) == 3
    slower = [hint for hint in suggest(named("fid-base"), Workload(), H200, SIZES) if hint.gain < 1]
    assert slower
    assert best(slower) == []


def test_a_knob_that_is_turned_already_is_not_offered() -> None:
    knobs = {hint.knob for hint in suggest(named("lumen-fido-base-xl"), Workload(decoder_dtype="int8"), H200)}
    assert knobs.isdisjoint({"cross_attention_every", "kv_heads", "live_layers", "decoder_dtype", "decoder"})


def test_no_larger_batch_than_fits() -> None:
    full = Workload(questions=338)
    found = {hint.knob: hint for hint in suggest(named("fid-base"), full, H200)}
    assert "questions" not in found


def test_other_decoder_sizes_keep_the_knobs() -> None:
    found = [h for h in suggest(named("fido-base-base"), Workload(), H200, SIZES) if h.knob == "decoder"]
    (larger,) = found
    assert larger.ms_per_question == pytest.approx(
        predict(named("fido-base-xl"), Workload(), H200).ms_per_question
    )
    assert larger.gain < 1
    assert not [h for h in suggest(named("tiny-fid"), Workload(), H200, SIZES) if h.knob == "decoder"]


def test_fewer_ragged_passages() -> None:
    ragged = Workload(passages=4, passage_tokens=(10, 20, 30, 40))
    found = {hint.knob: hint for hint in suggest(named("fid-base"), ragged, H200)}
    half = ragged.replace(passages=2, passage_tokens=(10, 20))
    assert found["passages"].ms_per_question == pytest.approx(
        predict(named("fid-base"), half, H200).ms_per_question
    )
    one = Workload(passages=1)
    assert "passages" not in {hint.knob for hint in suggest(named("fid-base"), one, H200)}
