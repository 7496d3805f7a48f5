"""Perplexity distillation: passages should score as they help to write the answer.

A reader that reranks learns its scores from itself. With each passage alone it says how likely the answer
is; the scores should rank passages as these likelihoods do (GLIMMER, arXiv 2306.10231; Atlas, arXiv
2208.03299). Likelihoods are a target: nothing is trained through them. All passages are scored and learnt
from, also those that are left behind; which are left behind while training is decided as in answering.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fidkit.context import IGNORED, Batch
from fidkit.fusion import lay_out
from fidkit.reader import Reader


def each_passage(batch: Batch) -> Batch:
    """The batch as R questions with one passage each; labels are those of the question."""
    question_R = batch.question_of_passage
    return Batch(
        question_ids=batch.question_ids[question_R],
        question_lengths=batch.question_lengths[question_R],
        passage_ids=batch.passage_ids,
        passage_lengths=batch.passage_lengths,
        question_of_passage=torch.arange(len(question_R), device=question_R.device),
        labels=None if batch.labels is None else batch.labels[question_R],
    )


@torch.no_grad()
def answer_likelihoods(reader: Reader, batch: Batch, memory_XD: Tensor) -> Tensor:
    """Log-likelihood [B, N] of each question's target by each passage alone, in nats; -inf where none is.

    Read and decoded without dropout; the reader is left in the mode it was in.

    Args:
        reader: any; whether it reranks makes no difference to a single passage.
        batch: with labels.
        memory_XD: of its passages.
    """
    training, alone = reader.training, each_passage(batch)
    assert alone.labels is not None
    reader.eval()
    logits_RTV = reader.decode(alone.labels, reader.read_memory(alone, memory_XD))
    reader.train(training)
    losses_RT = F.cross_entropy(
        logits_RTV.transpose(1, 2), alone.labels, ignore_index=IGNORED, reduction="none"
    )
    return lay_out(-losses_RT.sum(1), batch.question_of_passage, len(batch.question_lengths))


def perplexity_distillation(scores_BN: Tensor, likelihoods_BN: Tensor, temperature: float = 1.0) -> Tensor:
    """KL divergence of the ranking from the likelihoods, in nats, the mean over questions.

    Both are distributions over a question's passages: softmax(x / temperature). The sum is weighted by the
    likelihoods', so that a passage which explains the answer must not be missed.

    Args:
        scores_BN: -inf where a question has no such passage.
        likelihoods_BN: of the same places.
        temperature: above 1, passages that are nearly as good count nearly as much.
    """
    none = likelihoods_BN.isinf()
    wanted_BN, ranked_BN = (
        (x / temperature).log_softmax(-1).masked_fill(none, 0.0) for x in (likelihoods_BN, scores_BN)
    )
    share_BN = wanted_BN.exp().masked_fill(none, 0.0)
    return (share_BN * (wanted_BN - ranked_BN)).sum(-1).mean()
