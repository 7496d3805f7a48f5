"""Evidence that is tested: what the answer would be without a passage.

A reader of the family encodes passages apart from one another. So a passage can be left out where the decoder
reads, and nothing is encoded again: what is written then is what the reader would have answered, had the
passage not been found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from fidkit import arrays
from fidkit.arrays import Array
from fidkit.context import IGNORED, Context
from fidkit.engine.evidence import Looks
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.generate import Generated, generating
from fidkit.engine.generation.steps import C, Steps, Stepwise
from fidkit.tokens import Tokenizer
from fidkit.types import Answer, Without


class Source(Steps[C], Looks, Protocol[C]):
    """What writes answers and can say where it looked."""


def leave_out(
    source: Source[C],
    context: Context,
    generated: Generated,
    passages: Sequence[Sequence[int]],
    decoding: Decoding,
    tokenizer: Tokenizer,
) -> Stepwise[list[dict[int, Without]]]:
    """For each question, what happens without each of some of its passages; with a pause after each step.

    A passage is passed over where nothing else would be left to read.

    Args:
        source: that wrote the answers.
        context: of B questions.
        generated: the best answer to each.
        passages: numbers of passages of each question, to be left out one at a time.
        decoding: how answers are written; one answer a question is.
        tokenizer: of the reader.
    """
    one = replace(decoding, n_best=1)
    found: list[dict[int, Without]] = []
    for question, numbers in enumerate(passages):
        kept = {n: _others(context, question, n) for n in numbers}
        left = {n: real_M for n, real_M in kept.items() if bool(real_M.any())}
        if not left:
            found.append({})
            continue
        without = _contexts(context, question, list(left.values()))
        written = (yield from generating(source, without, one, None, tokenizer)).best.ids_BT.tolist()
        scores = _scores(source, without, generated.ids_BT[question])
        texts = [tokenizer.decode([i for i in ids if i != IGNORED]) for ids in written]
        found.append({n: Without(t, s) for n, t, s in zip(left, texts, scores, strict=True)})
    return found


def tested(answer: Answer, passages: Sequence[int], found: dict[int, Without]) -> Answer:
    """An answer with tested evidence in front, the passage first whose absence costs most.

    Args:
        answer: its evidence as read.
        passages: the number of each piece of evidence among the passages that were read.
        found: by passage number.
    """
    evidence = [
        replace(e, without=found.get(number)) for e, number in zip(answer.evidence, passages, strict=True)
    ]
    evidence.sort(key=lambda e: (e.without is None, e.without.score if e.without else 0.0))
    return replace(answer, evidence=tuple(evidence))


def _others(context: Context, question: int, passage: int) -> Array:
    """[M], True for the vectors of a question's other passages."""
    real_M: Array = context.mask_BM[question] & (context.passage_BM[question] != passage)
    some = bool((real_M & (context.passage_BM[question] >= 0)).any())
    return real_M if some else real_M & False


def _contexts(context: Context, question: int, kept: Sequence[Array]) -> Context:
    """One question's context several times, each with some of its vectors."""

    def lay_out(values_BM: Array, fill: int) -> Array:
        return arrays.padded([values_BM[question][real_M] for real_M in kept], fill)

    ids = None if context.ids_BM2 is None else lay_out(context.ids_BM2, 0)
    return Context(
        lay_out(context.states_BMD, 0),
        lay_out(context.mask_BM, False),
        lay_out(context.passage_BM, -1),
        lay_out(context.token_BM, -1),
        ids_BM2=ids,
    )


def _scores(source: Looks, contexts: Context, answer_T: Array) -> list[float]:
    """Mean log-probability of an answer's tokens in each context."""
    ids_BT = arrays.repeated(answer_T[answer_T != IGNORED][None], len(contexts.mask_BM))
    log_probabilities = arrays.log_softmax(source.look(ids_BT, contexts).logits_BTV)
    scores: list[float] = arrays.gather(log_probabilities, ids_BT[..., None], 2)[..., 0].mean(1).tolist()
    return scores
