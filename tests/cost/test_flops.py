"""Counted operations equal those that torch counts on the plain reader; the paper's formulas as printed."""

from collections.abc import Iterable
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from cost.points import PLAIN, batch_of, configs, few, workloads
from fidkit.config import ReaderConfig, StackConfig
from fidkit.cost import Part, Workload, exact_flops, list_parts, paper_flops, paper_shares, total_flops
from fidkit.cost.parts import DECODER_STAGES, ENCODER_STAGES
from fidkit.preset import PRESETS, named
from fidkit.reader import Reader

TINY = [name for name in PRESETS if name.startswith("tiny-")]


class Counts(NamedTuple):
    """Of matrix products: with weights, and between activations (attention)."""

    linear: int
    attention: int


def counted(run) -> Counts:
    with FlopCounterMode(display=False) as counter:
        run()
    of = counter.get_flop_counts()["Global"]
    linear = sum(of.pop(operation, 0) for operation in (torch.ops.aten.mm, torch.ops.aten.addmm))
    return Counts(linear, sum(of.values()))


def read_flops(reader: Reader, workload: Workload) -> Counts:
    return counted(lambda: reader.read(batch_of(workload)))


def generate_flops(reader: Reader, workload: Workload) -> Counts:
    context = reader.read(batch_of(workload))

    def generate() -> None:
        cache = reader.start(context, workload.output_tokens, workload.beams)
        ids = torch.zeros(workload.questions * workload.beams, dtype=torch.long)
        for _ in range(workload.output_tokens):
            reader.step(ids, cache)

    return counted(generate)


def train_flops(reader: Reader, workload: Workload) -> Counts:
    return counted(lambda: reader(batch_of(workload, labels=True)).loss.backward())


def predicted(parts: Iterable[Part]) -> Counts:
    totals = {True: 0, False: 0}
    for part in parts:
        totals["attention" in part.kind] += part.flops
    return Counts(totals[False], totals[True])


def of_stages(config: ReaderConfig, workload: Workload, stages: tuple[str, ...]) -> Counts:
    return predicted(part for part in list_parts(config, workload) if part.stage in stages)


def agrees(config: ReaderConfig, workload: Workload, most_padding: float = 1.0) -> None:
    """Equal to what torch counts, save for what the plain attention pads for the time of a call."""
    reader = Reader(config).eval()
    with torch.no_grad():
        pairs = [
            (of_stages(config, workload, ENCODER_STAGES), read_flops(reader, workload)),
            (of_stages(config, workload, DECODER_STAGES), generate_flops(reader, workload)),
        ]
    given_targets = workload.replace(beams=1)
    training = predicted(list_parts(config, given_targets, training=True))
    # The backward pass of attention within rows scores once more rather than keep what it scored.
    scored_again = of_stages(config, given_targets, ENCODER_STAGES).attention / 2
    trained = train_flops(reader, given_targets)
    for ours, theirs, again in [*((*pair, 0.0) for pair in pairs), (training, trained, scored_again)]:
        assert ours.linear == theirs.linear
        assert ours.attention <= theirs.attention <= most_padding * (ours.attention + again)


@pytest.mark.parametrize("name", TINY)
def test_flops_are_those_that_torch_counts(name: str) -> None:
    lengths = (5, 40, 13)  # so different that plain attention puts no two of them into one block
    agrees(
        named(name).replace(vocabulary_size=50),
        Workload(2, 3, passage_tokens=lengths, question_tokens=4, output_tokens=3, beams=2, **PLAIN),
    )


@pytest.mark.parametrize("frozen", [("memory", "question"), ("memory",), ("question",), ("embedding",), ()])
@pytest.mark.parametrize(
    ("family", "live_layers"),
    [("bert", 0), ("bert", 1), ("t5", 0), pytest.param("bert", 2, marks=pytest.mark.slow)],
)
def test_what_nothing_trained_makes_is_given_no_gradient(
    family: str, frozen: tuple[str, ...], live_layers: int
) -> None:
    size = {"heads": 1, "head_width": 2, "feed_forward": 7}
    encoder = StackConfig(layers=3, width=8, family=family, **size)
    decoder = StackConfig(layers=1, width=12, **size)
    shape = {"encoder": encoder, "decoder": decoder, "shared_embedding": False, "live_layers": live_layers}
    workload = Workload(questions=1, passages=1, passage_tokens=(3,), question_tokens=2, output_tokens=1)
    agrees(ReaderConfig(**shape, vocabulary_size=50, frozen=frozen), workload.replace(**PLAIN), 50.0)


@few
@given(configs(), workloads())
def test_flops_are_those_that_torch_counts_anywhere_in_the_space(
    config: ReaderConfig, workload: Workload
) -> None:
    agrees(config, workload, most_padding=1 / 0.8**2)


@few
@given(configs(), workloads(), st.booleans())
def test_rounding_changes_no_operations(config: ReaderConfig, workload: Workload, training: bool) -> None:
    rounded = workload.replace(encoder_dtype="int8", decoder_dtype="int8")
    assert exact_flops(config, rounded, training=training) == exact_flops(config, workload, training=training)


def test_padding_costs_what_longer_passages_cost() -> None:
    ragged = Workload(1, 3, passage_tokens=(5, 11, 7), question_tokens=4)
    for name in ("tiny-fid", "tiny-lumen", "tiny-memoryfid"):
        padded = exact_flops(named(name), ragged.replace(padded=True))
        assert padded == exact_flops(named(name), ragged.replace(passage_tokens=11))
        assert total_flops(named(name), ragged.replace(padded=True)) > total_flops(named(name), ragged)


def test_stored_memory_takes_the_memory_encoder_out() -> None:
    stored, computed = (exact_flops(named("lumen-base"), Workload(memory=m)) for m in ("bf16", "computed"))
    assert "memory" not in stored
    assert {**computed, **stored} == computed
    # Alpha is 1/3: two thirds of the layers, on passages without their question.
    assert sum(computed["memory"].values()) > sum(stored["live"].values())


def test_live_layers_after_the_scores_run_over_kept_passages_alone() -> None:
    lumen, glimmer = (
        exact_flops(named(f"{name}-base"), Workload(passages=25)) for name in ("lumen", "glimmer")
    )
    first = exact_flops(named("lumen-base"), Workload(passages=5))
    # Two of four live layers read 25 passages, the others and the decoder 5.
    for name, count in glimmer["live"].items():
        assert 2 * count == lumen["live"][name] + first["live"][name]
    assert glimmer["projection"] == first["projection"]
    assert glimmer["decode"] == first["decode"]
    assert glimmer["question"] == lumen["question"]


def test_keeping_more_passages_than_there_are_costs_what_reading_all_does() -> None:
    few_passages = Workload(passages=3)
    assert exact_flops(named("glimmer-base"), few_passages) == exact_flops(named("lumen-base"), few_passages)


def test_a_deeper_memory_encoder_costs_nothing_live() -> None:
    plain, deep = (
        exact_flops(named(f"lumen-base{name}"), Workload(memory="computed")) for name in ("", "-deep")
    )
    assert {**deep, "memory": None} == {**plain, "memory": None}
    assert deep["memory"]["feed-forward"] == 3 * plain["memory"]["feed-forward"]  # 24 layers, not 8


def test_beams_share_the_projection_and_nothing_else() -> None:
    one, four = (exact_flops(named("fid-base"), Workload(beams=beams)) for beams in (1, 4))
    assert one["live"] == four["live"]
    assert one["projection"] == four["projection"]
    assert {name: 4 * count for name, count in one["decode"].items()} == four["decode"]
    assert 4 * one["head"]["logits"] == four["head"]["logits"]


def test_paper_formulas_of_one_layer() -> None:
    one = StackConfig(layers=1, width=10, heads=2, head_width=5, feed_forward=40)
    found = paper_flops(
        ReaderConfig(encoder=one, decoder=one),
        Workload(passages=3, passage_tokens=6, question_tokens=1, output_tokens=4),
    )
    # n_s = 21, n_p = 7, n_t = 4, d = 10
    assert (found.encoder_feed_forward, found.encoder_projections, found.encoder_attention) == (
        8 * 21 * 100,
        4 * 21 * 100,
        2 * 21 * 7 * 10,
    )
    assert (found.decoder_feed_forward, found.decoder_projections, found.decoder_attention) == (
        8 * 4 * 100,
        4 * 4 * 100,
        2 * 16 * 10,
    )
    assert (found.cross_queries, found.cross_keys, found.cross_attention) == (
        2 * 4 * 100,
        2 * 21 * 100,
        2 * 4 * 21 * 10,
    )
    assert found.total == found.encoder + found.decoder


def test_paper_formulas_are_exact_where_they_are_meant_to_be() -> None:
    """Half of the FLOPs of a plain T5 layer with inner width 4d, given targets."""
    plain = StackConfig(layers=2, width=12, heads=3, head_width=4, feed_forward=48)
    reader = ReaderConfig(encoder=plain, decoder=plain, block="t5", cross_attention_every=2)
    workload = Workload(2, 3, passage_tokens=(5, 6, 9), question_tokens=3, output_tokens=4)
    exact = exact_flops(reader, workload, training=True)
    del exact["backward"], exact["head"]
    paper = paper_flops(reader, workload)
    assert 2 * paper.total == sum(sum(stage.values()) for stage in exact.values())
    assert 2 * paper.encoder == sum(exact["live"].values())


def test_the_papers_shares() -> None:
    workload = Workload()
    full = paper_shares(named("fid-base"), workload)
    assert full.decoder_share == pytest.approx(1 / 7)
    assert full.decoder / full.encoder == pytest.approx(1 / 6)
    sparse = paper_shares(named("fid-lsa-base"), workload)
    saved = 1 - (sparse.encoder + sparse.decoder) / (full.encoder + full.decoder)
    assert saved == pytest.approx(5 / 6 / 7)  # 11.9 %
    # The approximation is near the formulas it drops terms of.
    assert paper_flops(named("fid-base"), workload).total == pytest.approx(
        full.encoder + full.decoder, rel=0.08
    )


def test_the_sum_over_stages_is_the_total() -> None:
    for training in (False, True):
        table = exact_flops(named("lumen-fido-base-xl"), Workload(memory="computed"), training=training)
        assert sum(sum(stage.values()) for stage in table.values()) == total_flops(
            named("lumen-fido-base-xl"), Workload(memory="computed"), training=training
        )
