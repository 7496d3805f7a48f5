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
from fidkit.nn.rows import Rows


@dataclass(frozen=True)
class Joined:
    """Rows of question + passage.

    Attributes:
        states_XD: question vectors, then passage vectors, row after row.
        rows: where rows begin and end.
        token_X: which passage token a vector is; -1 for question vectors.
    """

    states_XD: Tensor
    rows: Rows
    token_X: Tensor


def length_mask(lengths: Tensor, width: int) -> Tensor:
    """[N, width], True in front of each length."""
    return torch.arange(width, device=lengths.device)[None] < lengths[:, None]


def join(
    question_XD: Tensor, questions: Rows, passage_XD: Tensor, passages: Rows, question_of_passage: Tensor
) -> Joined:
    """Put its question in front of each passage.

    Args:
        question_XD: vectors of all questions.
        questions: B rows.
        passage_XD: vectors of all passages.
        passages: R rows.
        question_of_passage: [R].
    """
    in_front = questions.lengths[question_of_passage]
    rows = Rows(in_front + passages.lengths)
    row = rows.row_X
    token = rows.position_X - in_front[row]
    of_question = questions.starts[question_of_passage[row]] + rows.position_X
    of_passage = len(question_XD) + passages.starts[row] + token
    source = torch.where(token < 0, of_question, of_passage)
    states = torch.cat([question_XD, passage_XD]).index_select(0, source)
    return Joined(states, rows, token.clamp(min=-1))


def fuse(
    states_XD: Tensor,
    joined: Joined,
    question_of_passage: Tensor,
    *,
    keep: int | None,
    question_states_XD: Tensor,
    questions: Rows,
    question_in_context: Literal["each", "once", "none"],
) -> Context:
    """Lay the kept vectors of all rows of a question one after the other.

    Args:
        states_XD: encoded rows.
        joined: where each vector of a row comes from.
        question_of_passage: [R], never decreasing.
        keep: vectors kept of each row, from its start; None keeps all.
        question_states_XD: the questions by themselves, for `once`.
        questions: B rows.
        question_in_context: what becomes of the question's vectors.
    """
    B, row = len(questions.lengths), joined.rows.row_X
    kept = torch.ones_like(row, dtype=torch.bool)
    if question_in_context != "each":
        kept = joined.token_X >= 0
    if keep is not None:
        before = torch.cat([row.new_zeros(1), kept.cumsum(0)])
        kept = kept & (before[:-1] - before[joined.rows.starts[row]] < keep)
    row, token, states = row[kept], joined.token_X[kept], states_XD[kept]
    question = question_of_passage[row]
    first_row = torch.searchsorted(question_of_passage, torch.arange(B, device=row.device))
    passage = row - first_row[question]
    if question_in_context == "once":
        own = questions.row_X
        order = torch.cat([own, question]).argsort(stable=True)
        states = torch.cat([question_states_XD, states])[order]
        none = torch.full_like(own, -1)
        passage, token = torch.cat([none, passage])[order], torch.cat([none, token])[order]
        question = torch.cat([own, question])[order]
    counts = torch.bincount(question, minlength=B)
    place = torch.arange(len(question), device=row.device) - (counts.cumsum(0) - counts)[question]
    M = int(counts.max())

    def lay_out(values: Tensor, fill: int) -> Tensor:
        out = values.new_full((B, M, *values.shape[1:]), fill)
        return out.index_put((question, place), values)

    return Context(lay_out(states, 0), length_mask(counts, M), lay_out(passage, -1), lay_out(token, -1))
