"""Evidence that is tested: what the answer would be without a passage.

A reader of the family encodes passages apart from one another. So a passage can be left out where the decoder
reads, and nothing is encoded again: what is written then is what the reader would have answered, had the
passage not been found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fidkit.context import IGNORED, Context
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.generate import Generated, generate
from fidkit.engine.runner import Runner
from fidkit.tokens import Tokenizer
from fidkit.types import Answer, Without


def leave_out(
    runner: Runner,
    context: Context,
    generated: Generated,
    passages: Sequence[Sequence[int]],
    decoding: Decoding,
    tokenizer: Tokenizer,
) -> list[dict[int, Without]]:
    """For each question, what happens without each of some of its passages.

    A passage is passed over where nothing else would be left to read.

    Args:
        runner: that wrote the answers.
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
        written = generate(runner, without, one, None, tokenizer).best.ids_BT.tolist()
        scores = _scores(runner, without, generated.ids_BT[question])
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


def _others(context: Context, question: int, passage: int) -> Tensor:
    """[M], True for the vectors of a question's other passages."""
    real_M: Tensor = context.mask_BM[question] & (context.passage_BM[question] != passage)
    return real_M if bool((real_M & (context.passage_BM[question] >= 0)).any()) else torch.zeros_like(real_M)


def _contexts(context: Context, question: int, kept: Sequence[Tensor]) -> Context:
    """One question's context several times, each with some of its vectors."""

    def lay_out(values_BM: Tensor, fill: int) -> Tensor:
        return pad_sequence([values_BM[question][real_M] for real_M in kept], True, fill)

    ids = None if context.ids_BM2 is None else lay_out(context.ids_BM2, 0)
    return Context(
        lay_out(context.states_BMD, 0),
        lay_out(context.mask_BM, False),
        lay_out(context.passage_BM, -1),
        lay_out(context.token_BM, -1),
        ids_BM2=ids,
    )


def _scores(runner: Runner, contexts: Context, answer_T: Tensor) -> list[float]:
    """Mean log-probability of an answer's tokens in each context."""
    ids_BT = answer_T[answer_T != IGNORED].expand(len(contexts.mask_BM), -1).contiguous()
    log_probabilities = runner.reader.decode(ids_BT, contexts).log_softmax(-1)
    scores: list[float] = log_probabilities.gather(2, ids_BT[..., None])[..., 0].mean(1).tolist()
    return scores
