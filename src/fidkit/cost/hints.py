"""Which knob buys most: neighbours of a reader and of its workload, by predicted time a question.

A knob that changes the model has a price in accuracy. Where the FiDO or GQA paper measured it, the hint
quotes the paper; those readers were pre-trained with the knob, which a converted checkpoint was not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fidkit.config import ReaderConfig, StackConfig
from fidkit.cost.hardware import Hardware
from fidkit.cost.ram import largest_batch
from fidkit.cost.roofline import predict
from fidkit.cost.workload import Workload

SPARSE_EVERY = 6  # FiDO section 3.1
GROUPS = 8  # the middle that the GQA paper recommends
LIVE_SHARE = 3  # LUMEN's alpha of 1/3
KEPT_SHARE = 6  # FiDO table 4
BATCH_FACTOR = 8

UNMEASURED = "no figure in the papers; measure with `fidkit evaluate`"


@dataclass(frozen=True)
class Hint:
    """One knob turned, everything else as it was.

    Attributes:
        knob: the field of `ReaderConfig` or `Workload` that changes.
        change: what to do, in words.
        ms_per_question: predicted afterwards.
        gain: predicted time a question before, divided by after; below 1 it gets slower.
        price: what it costs in accuracy or otherwise.
    """

    knob: str
    change: str
    ms_per_question: float
    gain: float
    price: str

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def best(suggested: Sequence[Hint], most: int = 3) -> list[Hint]:
    """The first of each knob, as far as they make anything faster."""
    firsts = {hint.knob: hint for hint in reversed(suggested) if hint.gain > 1}
    return sorted(firsts.values(), key=lambda hint: -hint.gain)[:most]


@dataclass(frozen=True)
class _Neighbour:
    knob: str
    change: str
    config: ReaderConfig
    workload: Workload
    price: str


def suggest(
    config: ReaderConfig,
    workload: Workload,
    hardware: Hardware,
    sizes: Mapping[str, StackConfig] | None = None,
) -> list[Hint]:
    """Neighbours that make a difference, the fastest first; the slower ones (a larger decoder) come last.

    Args:
        config: the reader.
        workload: the batch.
        hardware: where it runs.
        sizes: named stacks, the smallest first, among which the decoder's neighbours are looked up.
    """
    before = predict(config, workload, hardware).ms_per_question
    found = []
    for near in _neighbours(config, workload, hardware, sizes or {}):
        after = predict(near.config, near.workload, hardware).ms_per_question
        found.append(Hint(near.knob, near.change, after, before / after, near.price))
    return sorted((hint for hint in found if hint.gain != 1), key=lambda hint: -hint.gain)


def _neighbours(
    config: ReaderConfig, workload: Workload, hardware: Hardware, sizes: Mapping[str, StackConfig]
) -> Iterator[_Neighbour]:
    for knob, change, changes, price in _model_knobs(config, workload):
        yield _Neighbour(knob, change, config.replace(**changes), workload, price)
    yield from _decoder_sizes(config, workload, sizes)
    for knob, change, changes, price in _workload_knobs(config, workload, hardware):
        yield _Neighbour(knob, change, config, workload.replace(**changes), price)


_Knob = tuple[str, str, dict[str, Any], str]


def _model_knobs(config: ReaderConfig, workload: Workload) -> Iterator[_Knob]:
    layers, heads = config.decoder.layers, config.decoder.heads
    every = SPARSE_EVERY if layers >= SPARSE_EVERY else max(1, layers // 2)
    if every > config.cross_attention_every:
        yield (
            "cross_attention_every",
            f"K = {every}: cross-attention in {layers // every} of {layers} decoder layers",
            {"cross_attention_every": every},
            "-0.7 NQ, -0.5 TriviaQA, -0.8 WebQuestions EM (FiDO table 4, base)",
        )
    for groups, price in (
        (1, "0.0 NQ, -0.2 TriviaQA, +1.4 WebQuestions EM (FiDO table 3, base-XL)"),
        (GROUPS, "-0.1 on average over summaries, translation and TriviaQA (GQA paper, XXL)"),
    ):
        if groups < max(config.kv_heads) and heads % groups == 0:
            yield (
                "kv_heads",
                f"{groups} key/value head{'s' if groups > 1 else ''} instead of {max(config.kv_heads)}",
                {"self_kv_heads": groups, "cross_kv_heads": groups},
                price,
            )
    live = max(1, round(config.encoder.layers / LIVE_SHARE))
    if live < config.live and (config.rerank is None or config.rerank.after <= live):
        yield (
            "live_layers",
            f"{live} of {config.encoder.layers} encoder layers live, the others stored (LUMEN)",
            {"live_layers": live},
            "a store for the corpus; no figure at hand, larger readers lose less (LUMEN)",
        )
    longest = max(workload.lengths) + workload.question_tokens
    kept = max(1, longest // KEPT_SHARE)
    if kept < (config.kept_vectors or longest):
        yield (
            "kept_vectors",
            f"only {kept} vectors of each passage for the decoder",
            {"kept_vectors": kept},
            "-10.2 NQ, -11.3 TriviaQA, -11.0 WebQuestions EM (FiDO table 4, base, no multi-task training)",
        )


def _workload_knobs(config: ReaderConfig, workload: Workload, hardware: Hardware) -> Iterator[_Knob]:
    fewer = workload.passages // 2
    if fewer:
        lengths = workload.passage_tokens
        yield (
            "passages",
            f"{fewer} passages instead of {workload.passages}",
            {
                "passages": fewer,
                "passage_tokens": lengths[:fewer] if isinstance(lengths, tuple) else lengths,
            },
            "the answer must be in fewer passages; measure with `fidkit evaluate`",
        )
    if workload.decoder_matrices != "int8":
        yield "decoder_dtype", "decoder weights in int8", {"decoder_dtype": "int8"}, UNMEASURED
    most = largest_batch(config, workload, hardware.usable_bytes, packs=hardware.packs)
    larger = min(most, workload.questions * BATCH_FACTOR)
    if larger > workload.questions:
        yield (
            "questions",
            f"{larger} questions a batch instead of {workload.questions}",
            {"questions": larger},
            "none; each question waits for the whole batch",
        )


def _decoder_sizes(
    config: ReaderConfig, workload: Workload, sizes: Mapping[str, StackConfig]
) -> Iterator[_Neighbour]:
    names = list(sizes)
    own = next((i for i, name in enumerate(names) if sizes[name] == config.decoder), None)
    if own is None:
        return
    # Two sizes apart, as FiDO pairs encoder and decoder.
    for place, price in (
        (own + 2, "+1.9 NQ, +2.4 TriviaQA, +5.8 WebQuestions EM from base to XL (FiDO table 3)"),
        (own - 2, "-1.9 NQ, -2.4 TriviaQA, -5.8 WebQuestions EM from XL to base (FiDO table 3)"),
    ):
        if 0 <= place < len(names):
            yield _Neighbour(
                "decoder",
                f"a decoder of size {names[place]} instead of {names[own]}",
                _with_decoder(config, sizes[names[place]]),
                workload,
                price,
            )


def _with_decoder(config: ReaderConfig, stack: StackConfig) -> ReaderConfig:
    """The same knobs on another decoder; multi-head stays multi-head, as few heads stay as few."""

    def fitting(kv_heads: int) -> int:
        if kv_heads == config.decoder.heads:
            return stack.heads
        return next(n for n in range(kv_heads, 0, -1) if stack.heads % n == 0)

    self_kv_heads, cross_kv_heads = map(fitting, config.kv_heads)
    changed: ReaderConfig = config.replace(
        decoder=stack.model_dump(),
        shared_embedding=config.shared_embedding and stack.width == config.encoder.width,
        cross_attention_every=min(config.cross_attention_every, stack.layers),
        self_kv_heads=self_kv_heads,
        cross_kv_heads=cross_kv_heads,
    )
    return changed
