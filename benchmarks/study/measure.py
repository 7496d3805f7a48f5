"""How good a reader of the study is, what a question costs, and how long its decoder takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from judging import Asked

from fidkit.context import IGNORED, Batch, collate
from fidkit.cost import Workload, cross_cache_bytes, exact_flops
from fidkit.engine.answering import tokenizer_of
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.generate import generate
from fidkit.engine.locating import in_their_words
from fidkit.engine.runner import Runner
from fidkit.evaluate.metrics import exact_match, f1
from fidkit.reader import Reader
from fidkit.tokens import Tokenizer
from fidkit.types import Passage
from study.states import States

BATCH = 20
LONGEST = 20
"""Tokens of an answer that is judged."""
FEW = 100
"""Questions of each set, the first, where a reader is judged again and again."""
SOME = 200
"""Questions of each set that doesn't decide, the first."""
TIMED = 20
MANY = 20
"""Passages of a question that is timed, beside a single one."""
TIMES = 5
OUTPUT = 8
"""Tokens of an answer that is timed."""


class StatesRunner(Runner):
    """A runner that takes what frozen layers make from where it is kept."""

    def __init__(self, reader: Reader, states: States) -> None:
        super().__init__(reader, "float32")
        self._run = states.beside(self._run)


def judged(
    runner: Runner, sets: Mapping[str, Asked], beams: int = 1, limit: int | None = None
) -> dict[str, dict[str, float]]:
    """By dataset: questions, exact match and F1 (percent), log-likelihood of the first answer (nats)."""
    return {
        name: _judged(runner, asked[:limit], _how(beams, max_tokens=LONGEST)) for name, asked in sets.items()
    }


def _judged(runner: Runner, asked: Asked, how: Decoding) -> dict[str, float]:
    """As `judging.judge` does, without evidence, which nobody asks for here."""
    tokenizer, scores = tokenizer_of(runner), {"em": 0.0, "f1": 0.0, "log_likelihood": 0.0}
    for at in range(0, len(asked), BATCH):
        part = asked[at : at + BATCH]
        batch = _collated(tokenizer, part)
        with runner.at_work():
            context = runner.read(batch)
            written = generate(runner, context, how, tokenizer=tokenizer).best.ids_BT.tolist()
            assert batch.labels is not None
            with torch.autocast("cpu", torch.bfloat16):
                scores["log_likelihood"] -= float(runner.reader.answer_loss(batch.labels, context))
        for (question, passages), ids in zip(part, written, strict=True):
            text = tokenizer.decode([token for token in ids if token != IGNORED])
            text = in_their_words(text, passages) or text
            scores["em"] += 100 * exact_match(text, question.answers)
            scores["f1"] += 100 * f1(text, question.answers)
    return {"n": len(asked), **{name: total / len(asked) for name, total in scores.items()}}


def _how(beams: int, **limits: Any) -> Decoding:
    """A reader that sees the first vectors of a passage alone has to write words that it has no place of."""
    return Decoding(beams=beams, extractive=False, **limits)


def _collated(tokenizer: Tokenizer, asked: Asked) -> Batch:
    return collate(
        [tokenizer.question(question.question).ids for question, _ in asked],
        [tokenizer.passages(of_one) for _, of_one in asked],
        [tokenizer.target(question.answers[0]) for question, _ in asked],
    )


def times(runner: Runner, asked: Asked, beams: int = 1) -> dict[str, float]:
    """Milliseconds of a processor that the decoder takes for a question, by passages read.

    Reading isn't in it; projecting the context's keys and values is. Medians of some rounds.
    """
    passages = [passage for _, of_one in asked for passage in of_one]
    return {str(n): _time(runner, _batch(runner, asked[:TIMED], passages, n), beams) for n in (1, MANY)}


def _batch(runner: Runner, asked: Asked, others: Sequence[Passage], n: int) -> Batch:
    """Questions with their passage and those of others, n each; the more, the fewer questions."""
    few = asked[: max(1, 2 * TIMED // n)]
    read = [[*own, *others[n * number : n * (number + 1)]][:n] for number, (_, own) in enumerate(few)]
    return _collated(tokenizer_of(runner), [(q, of_one) for (q, _), of_one in zip(few, read, strict=True)])


def _time(runner: Runner, batch: Batch, beams: int) -> float:
    how, took = _how(beams, min_tokens=OUTPUT, max_tokens=OUTPUT), []
    with runner.at_work():
        context = runner.read(batch)
        for _ in range(TIMES):
            began = time.process_time()
            generate(runner, context, how, tokenizer=runner.tokenizer)
            took.append(1000 * (time.process_time() - began) / len(batch.question_lengths))
    return statistics.median(took)


def costs(reader: Reader) -> dict[str, Any]:
    """By the cost model, of a question with 20 passages of average length and 8 tokens of an answer."""
    work = Workload(
        passages=MANY, passage_tokens=150, question_tokens=18, output_tokens=OUTPUT, dtype="float32"
    )
    flops = {stage: sum(parts.values()) for stage, parts in exact_flops(reader.config, work).items()}
    decoder = sum(p.numel() for name, p in reader.named_parameters() if name.startswith("decoder.layers"))
    return {
        "flops": flops, "cross_cache_bytes": cross_cache_bytes(reader.config, work),
        "decoder_weights": decoder,
    }  # fmt: skip


def sized(
    reader: Reader,
    states: States,
    deciding: Mapping[str, Asked],
    others: Mapping[str, Asked],
    beams: Sequence[int],
) -> dict[str, Any]:
    """The outcome part of a row.

    Args:
        reader: trained.
        states: of its frozen layers.
        deciding: sets that it is compared by, also with beams; its times are of questions of the first.
        others: sets that it is judged by besides.
        beams: numbers of hypotheses.
    """
    runner = StatesRunner(reader, states)
    asked = next(iter(deciding.values()))
    searched = {
        str(width): {**judged(runner, deciding, width, FEW), "decoder_ms": times(runner, asked, width)}
        for width in beams
    }
    return {
        **judged(runner, {**deciding, **others}), "decoder_ms": times(runner, asked), **costs(reader),
        **({"beams": searched} if searched else {}),
    }  # fmt: skip
