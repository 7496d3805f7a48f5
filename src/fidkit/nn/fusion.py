"""Joining a question to each passage, and fusing the passages of a question into one context.

Pure functions of states and lengths. Positions are explicit: a joined row is question then passage
without a gap, as if both had been one text (T5's relative positions run 0 .. n-1 over the join).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fidkit.batch import Context


@dataclass(frozen=True)
class Joined:
    """Rows of question + passage.

    Attributes:
        states_RSD: question vectors, then passage vectors, then padding.
        mask_RS: True where a vector is real.
        token_RS: which passage token a vector is; -1 for question vectors and padding.
    """

    states_RSD: Tensor
    mask_RS: Tensor
    token_RS: Tensor


def length_mask(lengths: Tensor, width: int) -> Tensor:
    """[N, width], True in front of each length."""
    return torch.arange(width, device=lengths.device)[None] < lengths[:, None]


def join(
    question_RQD: Tensor, question_lengths: Tensor, passage_RPD: Tensor, passage_lengths: Tensor
) -> Joined:
    """Put each row's question in front of its passage.

    Args:
        question_RQD: the question of each row (repeated for each of its passages).
        question_lengths: [R].
        passage_RPD: passage states.
        passage_lengths: [R].
    """
    Q = question_RQD.shape[1]
    total = question_lengths + passage_lengths
    position = torch.arange(int(total.max()), device=total.device)[None]
    of_passage = position - question_lengths[:, None]
    real = position < total[:, None]
    source = torch.where(of_passage < 0, position, Q + of_passage)
    source = source.masked_fill(~real, 0)
    both = torch.cat([question_RQD, passage_RPD], dim=1)
    states = both.gather(1, source[:, :, None].expand(-1, -1, both.shape[2]))
    token = torch.where((of_passage >= 0) & real, of_passage, -1)
    return Joined(states, real, token)


def fuse(
    states_RSD: Tensor,
    joined: Joined,
    question_of_passage: Tensor,
    questions: int,
    *,
    keep: int | None,
    question_states_BQD: Tensor,
    question_lengths: Tensor,
    question_in_context: Literal["each", "once", "none"],
) -> Context:
    """Lay the kept vectors of all rows of a question one after the other.

    Args:
        states_RSD: encoded rows.
        joined: where each vector of a row comes from.
        question_of_passage: [R], never decreasing.
        questions: B.
        keep: vectors kept of each row, from its start; None keeps all.
        question_states_BQD: the question by itself, for `once`.
        question_lengths: [B].
        question_in_context: what becomes of the question's vectors.
    """
    kept = joined.mask_RS if question_in_context == "each" else joined.token_RS >= 0
    if keep is not None:
        kept = kept & (kept.long().cumsum(1) <= keep)
    row, column = kept.nonzero(as_tuple=True)
    states = states_RSD[row, column]
    question = question_of_passage[row]
    first_row = torch.searchsorted(question_of_passage, torch.arange(questions, device=row.device))
    passage = row - first_row[question]
    token = joined.token_RS[row, column]
    if question_in_context == "once":
        own, position = length_mask(question_lengths, question_states_BQD.shape[1]).nonzero(as_tuple=True)
        order = torch.cat([own, question]).argsort(stable=True)
        states = torch.cat([question_states_BQD[own, position], states])[order]
        none = torch.full_like(own, -1)
        passage, token = torch.cat([none, passage])[order], torch.cat([none, token])[order]
        question = torch.cat([own, question])[order]
    counts = torch.bincount(question, minlength=questions)
    place = torch.arange(len(question), device=row.device) - (counts.cumsum(0) - counts)[question]
    M = int(counts.max())

    def lay_out(values: Tensor, fill: int) -> Tensor:
        out = values.new_full((questions, M, *values.shape[1:]), fill)
        return out.index_put((question, place), values)

    return Context(lay_out(states, 0), length_mask(counts, M), lay_out(passage, -1), lay_out(token, -1))
