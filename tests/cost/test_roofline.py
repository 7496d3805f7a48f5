"""Times: floors worked out by hand, the shapes of the paper's tables and figures, and properties."""

import dataclasses

import pytest
from hypothesis import given

from cost.points import configs, few, workloads
from fidkit.config import ReaderConfig
from fidkit.cost import HARDWARE, Efficiency, Hardware, Workload, build, find_hardware, predict
from fidkit.cost.parts import KINDS
from fidkit.errors import UsageError
from fidkit.preset import named

# What an H200 reaches in large products and copies.
REACHED = Hardware("reached", {"bfloat16": 790}, 4300, 141, 64, "test")
EIGHT = dataclasses.replace(REACHED, matrix_tflops={"bfloat16": 790, "int8": 1580})
XL = named("fido-base-xl")
VARIANTS = {
    "fid-base": (named("fid-base"), 1),
    "+LSA": (named("fid-lsa-base"), 1),
    "+MQ": (named("fido-base-base"), 1),
    "+beam 16": (named("fido-base-base"), 16),
    "base-XL": (XL, 1),
    "no LSA": (XL.replace(cross_attention_every=1), 1),
    "no MQ": (XL.replace(self_kv_heads=32, cross_kv_heads=32), 1),
    "light": (named("fid-light-base"), 1),
    "small-large": (named("fido-small-large"), 1),
    "large-XXL": (named("fido-large-xxl"), 1),
    "small": (named("fid-small"), 1),
    "large": (named("fid-large"), 1),
}
# Milliseconds a question, encoder and decoder, 40 x 256 vectors, 32 tokens: the whole encoder against peak
# rate, every step's weights and caches against peak bandwidth.
FLOORS = {
    (64, "fid-base"): (2.32, 3.209),
    (64, "+LSA"): (2.32, 0.560),
    (64, "+MQ"): (2.32, 0.068),
    (64, "+beam 16"): (2.32, 0.174),
    (64, "base-XL"): (2.32, 0.336),
    (64, "no LSA"): (2.32, 0.816),
    (64, "no MQ"): (2.32, 3.140),
    (64, "light"): (2.32, 0.567),
    (64, "small-large"): (0.53, 0.156),
    (64, "large-XXL"): (8.32, 1.047),
    (64, "small"): (0.53, 1.028),
    (64, "large"): (8.32, 8.899),
    (24, "fid-base"): (2.32, 3.257),
    (24, "+MQ"): (2.32, 0.106),
    (24, "base-XL"): (2.32, 0.748),
    (1, "fid-base"): (2.32, 5.023),
    (1, "+LSA"): (2.32, 2.200),
    (1, "+MQ"): (2.32, 1.518),
    (1, "+beam 16"): (2.32, 1.524),
    (1, "base-XL"): (2.32, 15.895),
    (1, "large-XXL"): (8.32, 61.169),
    (1, "large"): (8.32, 14.635),
}


@pytest.mark.parametrize(("questions", "name"), FLOORS)
def test_ceilings_are_the_floors_worked_out_by_hand(questions: int, name: str) -> None:
    """A sum over parts is a little more than the longer of two sums; most where 16 beams balance both."""
    point, beams = VARIANTS[name]
    found = predict(point, Workload(questions=questions, beams=beams), REACHED).ceiling
    encoder, decoder = FLOORS[questions, name]
    assert found["encoder_ms"] / questions == pytest.approx(encoder, rel=0.04)
    assert found["decoder_ms"] / questions == pytest.approx(decoder, rel=0.07 if beams > 1 else 0.05)
    assert found["total_ms"] == pytest.approx(found["encoder_ms"] + found["decoder_ms"])


def test_sparse_cross_attention_pays_up_to_six() -> None:
    """FiDO figure 4's shape, and the floors of it."""
    found = [
        predict(XL.replace(cross_attention_every=K), Workload(questions=24), REACHED).ceiling["decoder_ms"]
        / 24
        for K in (1, 2, 3, 6, 12, 24)
    ]
    assert found == pytest.approx([1.29, 0.97, 0.86, 0.75, 0.69, 0.67], rel=0.03)
    assert found[0] - found[3] > 5 * (found[3] - found[5])


@pytest.mark.parametrize(
    ("name", "questions", "total", "decoder"),
    [
        ("fid-base", 24, 101.8, 88.0),
        ("+LSA", 64, 29.5, 15.7),
        ("+MQ", 64, 14.4, 0.6),
        ("base-XL", 64, 15.8, 2.0),
        ("no LSA", 64, 19.2, 5.4),
        ("no MQ", 64, 60.8, 47.0),
    ],
)
def test_predictions_on_a_tpu_are_near_the_papers_times(
    name: str, questions: int, total: float, decoder: float
) -> None:
    """FiDO tables 3 and 4, which its efficiencies were fitted to."""
    found = predict(VARIANTS[name][0], Workload(questions=questions), HARDWARE["tpuv4"]).predicted
    assert found["total_ms"] / questions == pytest.approx(total, rel=0.25)
    assert found["decoder_ms"] / questions == pytest.approx(decoder, rel=0.30)


def test_claims_of_the_paper_hold_on_an_h200() -> None:
    """Decoder's share, order of the variants, and when a larger decoder is free."""

    def times(name: str, questions: int) -> dict[str, float]:
        point, beams = VARIANTS[name]
        return predict(point, Workload(questions=questions, beams=beams), HARDWARE["h200"]).predicted

    for questions in (24, 64):
        fid, lsa, fido, wide = (times(name, questions) for name in ("fid-base", "+LSA", "+MQ", "base-XL"))
        assert fid["decoder_ms"] > 0.5 * fid["total_ms"]
        assert fido["decoder_ms"] < 0.2 * fido["total_ms"]
        assert fid["total_ms"] > lsa["total_ms"] > fido["total_ms"]
        assert wide["total_ms"] < 1.3 * fido["total_ms"]
    assert times("base-XL", 1)["total_ms"] > 3 * times("+MQ", 1)["total_ms"]
    assert times("+beam 16", 1)["total_ms"] < 1.05 * times("+MQ", 1)["total_ms"]


@few
@given(configs(), workloads())
def test_more_work_takes_longer(point: ReaderConfig, workload: Workload) -> None:
    machine = HARDWARE["cpu-2core"]
    before = predict(point, workload, machine)
    for changes in (
        {"questions": workload.questions + 1},
        {"passage_tokens": tuple(length + 3 for length in workload.lengths)},
        {"passages": workload.passages + 1, "passage_tokens": (*workload.lengths, 5)},
        {"question_tokens": workload.question_tokens + 2},
        {"output_tokens": workload.output_tokens + 1},
        {"beams": workload.beams + 1},
    ):
        after = predict(point, workload.replace(**changes), machine)
        for times in ("ceiling", "predicted"):
            assert getattr(after, times)["total_ms"] >= getattr(before, times)["total_ms"]
        assert after.flops >= before.flops


@few
@given(configs(), workloads())
def test_nothing_is_faster_than_its_ceiling(point: ReaderConfig, workload: Workload) -> None:
    for name in ("h200", "cpu-2core"):
        found = predict(point, workload, HARDWARE[name])
        for stage in found.stages:
            assert 0 < stage.ceiling_ms <= stage.predicted_ms
            assert stage.bound in ("compute", "traffic", "overhead")


def test_without_efficiencies_the_prediction_is_the_ceiling() -> None:
    found = predict(XL, Workload(), REACHED)
    assert found.predicted == pytest.approx(found.ceiling)


def test_efficiencies_and_overheads_count_where_they_belong() -> None:
    halved = Hardware(
        "halved",
        REACHED.matrix_tflops,
        4300,
        141,
        64,
        "test",
        efficiency={kind: Efficiency(0.5, 0.5) for kind in KINDS},
    )
    ceiling = predict(XL, Workload(), REACHED).ceiling
    assert predict(XL, Workload(), halved).predicted == pytest.approx({k: 2 * v for k, v in ceiling.items()})
    slow_steps = Hardware("slow", REACHED.matrix_tflops, 4300, 141, 64, "test", step_us=1000)
    later = predict(XL, Workload(), slow_steps).predicted
    assert later["decoder_ms"] == pytest.approx(ceiling["decoder_ms"] + 32)
    assert later["encoder_ms"] == pytest.approx(ceiling["encoder_ms"])
    slow_launches = Hardware("slow", REACHED.matrix_tflops, 4300, 141, 64, "test", launch_us=1000)
    decoding = predict(named("fid-base"), Workload(), slow_launches).stages[2]
    # Five parts in each of 12 layers and 32 steps.
    assert decoding.predicted_ms - decoding.ceiling_ms == pytest.approx(5 * 12 * 32)
    assert decoding.bound == "overhead"


def test_products_of_8_bits_run_at_their_rate_and_attention_does_not() -> None:
    slow = Hardware("slow", {"bfloat16": 1.0, "int8": 2.0}, 1e9, 141, 64, "test")
    fid = named("fid-base")
    half, int8 = (predict(fid, Workload(encoder_dtype=dtype), slow) for dtype in (None, "int8"))
    of = [{t.part.name: t.ceiling for t in found.stages[0].parts} for found in (half, int8)]
    assert of[1]["projections"] == pytest.approx(of[0]["projections"] / 2)
    assert of[1]["attention"] == of[0]["attention"] > 0
    live, projection, decode, head = (
        [found.stages[i].ceiling_ms for found in (half, int8)] for i in range(4)
    )
    assert projection[1] == pytest.approx(projection[0] / 2)
    assert decode[0] == decode[1]
    assert head[0] == head[1]
    attention = 1000 * of[0]["attention"]
    assert live[1] - attention == pytest.approx((live[0] - attention) / 2)


def test_weights_of_8_bits_are_widened_once_a_step() -> None:
    """Whatever the rows; and not in the ceiling, nor where activations have 8 bits, too."""
    slow = dataclasses.replace(EIGHT, bandwidth_gbs=1e9, widening=3.0)
    point, both = named("fido-base-base"), {"encoder_dtype": "int8", "decoder_dtype": "int8"}
    weights = 12 * (2 * 768 * 768 + 2 * 768 * 64 + 3 * 768 * 2048) + 2 * 2 * 768 * 768 + 768 * 32128
    for questions in (1, 5):
        workload = Workload(questions=questions, **both)
        found, free = (
            predict(point, workload, machine) for machine in (slow, dataclasses.replace(slow, widening=0.0))
        )
        longer = {
            s.stage: s.predicted_ms - f.predicted_ms for s, f in zip(found.stages, free.stages, strict=True)
        }
        assert longer["decode"] + longer["head"] == pytest.approx(1000 * 32 * 3.0 * weights / 790e12)
        assert longer["live"] == longer["projection"] == 0
        assert found.ceiling == free.ceiling
    wide = Workload(decoder_dtype="bfloat16")
    free = dataclasses.replace(slow, widening=0.0)
    assert predict(point, wide, slow).predicted == predict(point, wide, free).predicted


def test_one_question_is_bound_by_traffic_and_reading_by_arithmetic() -> None:
    bound = {s.stage: s.bound for s in predict(named("fid-base"), Workload(), HARDWARE["h200"]).stages}
    assert bound == {"live": "compute", "projection": "compute", "decode": "traffic", "head": "traffic"}


def test_lumen_reads_a_third_and_fetches_the_rest() -> None:
    fid, lumen = (predict(named(n), Workload(), HARDWARE["cpu-2core"]) for n in ("fid-base", "lumen-base"))
    live = {s.stage: s.predicted_ms for s in lumen.stages}
    assert live["live"] == pytest.approx(fid.predicted["encoder_ms"] / 3)
    assert live["memory"] < 0.01 * live["live"]
    smaller = predict(named("lumen-base"), Workload(memory="pq"), HARDWARE["cpu-2core"]).stages[0]
    assert smaller.bytes == lumen.stages[0].bytes / 16


def test_training_costs_three_forward_passes_of_what_is_trained() -> None:
    for name in ("fid-base", "lumen-base"):
        found = predict(named(name), Workload(memory="computed"), REACHED, training=True)
        of = {s.stage: s.flops for s in found.stages}
        trained = sum(of.values()) - of["backward"] - of.get("memory", 0)
        assert of["backward"] == 2 * trained
        assert found.ceiling["total_ms"] > found.ceiling["encoder_ms"] + found.ceiling["decoder_ms"]


def test_training_has_kinds_of_work_of_its_own() -> None:
    generating, training = (
        {t.part.kind for s in predict(XL, Workload(), REACHED, training=train).stages for t in s.parts}
        for train in (False, True)
    )
    assert generating == {*KINDS, "elementwise"} - {"decoder_attention"}
    assert training == {"linear", "encoder_attention", "elementwise"}
    multi_head = predict(named("fid-base"), Workload(), REACHED).stages[2]
    assert {t.part.kind for t in multi_head.parts} == {"decoder_weights", "decoder_attention", "elementwise"}


def test_building_the_memory_of_wikipedia() -> None:
    """21 million passages of 208 tokens: 6.7 TB at base, 35.8 TB at XXL."""
    for name, terabytes in (("lumen-base", 6.7), ("lumen-xxl", 35.8)):
        found = build(named(name), Workload(), HARDWARE["h200"], passages=21_015_324)
        assert found.bytes / 1e12 == pytest.approx(terabytes, rel=0.01)
        assert 0 < found.ceiling_s < found.predicted_s
    small, large = (
        build(named("lumen-base"), Workload(passage_tokens=(100, 200), passages=2), REACHED, passages=n)
        for n in (1000, 3000)
    )
    assert large.flops == pytest.approx(3 * small.flops)
    assert large.bytes == 3 * small.bytes == 3 * 1000 * 150 * 768 * 2


def test_building_takes_encoding_and_writing() -> None:
    slow = Hardware("slow disk", {"bfloat16": 790}, 4300, 141, 0.001, "test")
    fast, late = (build(named("lumen-base"), Workload(), on, passages=1000) for on in (REACHED, slow))
    writing = fast.bytes / 1e6 - fast.bytes / 64e9
    assert late.ceiling_s - fast.ceiling_s == pytest.approx(writing)
    assert late.predicted_s - fast.predicted_s == pytest.approx(writing)


def test_memory_encoded_offline_costs_what_it_costs_online() -> None:
    point, workload = named("lumen-base"), Workload(memory="computed")
    online = predict(point, workload, REACHED).stages[0]
    assert online.stage == "memory"
    assert build(point, workload, REACHED, passages=40).flops == online.flops


def test_a_reader_without_memory_has_none_to_build() -> None:
    with pytest.raises(UsageError, match="stores no memory"):
        build(named("fid-base"), Workload(), REACHED, passages=10)


def test_a_dtype_without_a_rate_is_refused() -> None:
    with pytest.raises(
        UsageError, match="no float32 rate is known of hardware tpuv4; choose one of bfloat16"
    ):
        predict(named("fid-base"), Workload(dtype="float32"), find_hardware("tpuv4"))
