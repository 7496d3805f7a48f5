"""Joining a question to each passage, and fusing the passages of a question into one context.

Pure functions of states and lengths. Positions are explicit: a joined row is question then passage
without a gap, as if both had been one text (T5's relative positions run 0 .. n-1 over the join).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

from fidkit import arrays
from fidkit.arrays import Array
from fidkit.config import LiveAttention
from fidkit.context import Context
from fidkit.rows import Layout, Sides

SEES: dict[LiveAttention, tuple[bool, bool]] = {
    "full": (True, True),
    "passage-sees-question": (False, True),
    "question-sees-passage": (True, False),
    "apart": (False, False),
}
"""Whether the question of a row attends to the passage, and the passage to the question."""


L = TypeVar("L", bound=Layout)


@dataclass(frozen=True)
class Joined(Generic[L]):
    """Rows of question + passage.

    Attributes:
        states_XD: question vectors, then passage vectors, row after row.
        rows: where rows begin and end.
        token_X: which passage token a vector is; -1 for question vectors.
        question_R: the question of each row, never decreasing.
        passage_R: which passage of its question each row is.
        ids_X2: of each vector, its token's number in the vocabulary and that of the one before it in the row;
            None where nobody asks.
    """

    states_XD: Array
    rows: L
    token_X: Array
    question_R: Array
    passage_R: Array
    ids_X2: Array | None = None

    def select(self, chosen_R: Array) -> Joined[L]:
        """The rows that are chosen (True), in their order."""
        chosen_X = chosen_R[self.rows.row_X]
        sides = self.rows.sides
        if sides is not None:
            sides = replace(sides, front_R=sides.front_R[chosen_R])
        return Joined(
            self.states_XD[chosen_X],
            self.rows.of(self.rows.lengths[chosen_R], sides),
            self.token_X[chosen_X],
            self.question_R[chosen_R],
            self.passage_R[chosen_R],
            None if self.ids_X2 is None else self.ids_X2[chosen_X],
        )


def with_the_one_before(ids_X: Array, rows: Layout, pad_token: int) -> Array:
    """[X, 2]: each token and the one before it in its row; the padding token in front of a row."""
    before = arrays.concatenate([ids_X[-1:], ids_X[:-1]])
    return arrays.stack([ids_X, arrays.masked(before, rows.position_X == 0, pad_token)], 1)


def length_mask(lengths: Array, width: int) -> Array:
    """[N, width], True in front of each length."""
    return arrays.arange(width, lengths)[None] < lengths[:, None]


def number_in_group(group: Array) -> Array:
    """[R]: 0, 1, 2 ... within each run of equal numbers of `group` [R], which never decreases."""
    return arrays.arange(len(group), group) - arrays.firsts(group)


def best_in_group(scores_R: Array, group_R: Array, keep: int) -> Array:
    """[R], True for the `keep` best of each group; of equal ones, the first. Groups stand together."""
    order = arrays.descending(scores_R)
    order = order[arrays.grouped(group_R[order])]
    rank_R = arrays.copied(order)
    rank_R[order] = number_in_group(group_R)
    return rank_R < keep


def lay_out(scores_R: Array, question_R: Array, questions: int) -> Array:
    """[B, N] from [R]: one row a question, -inf where it has fewer passages than another."""
    passage_R = number_in_group(question_R)
    width = int(passage_R.max()) + 1 if len(passage_R) else 0
    scores_BN = arrays.full((questions, width), float("-inf"), scores_R)
    scores_BN[question_R, passage_R] = scores_R
    return scores_BN


def join(
    question_XD: Array,
    questions: Layout,
    passage_XD: Array,
    passages: L,
    question_of_passage: Array,
    attention: LiveAttention = "full",
    ids: tuple[Array, Array, int] | None = None,
) -> Joined[L]:
    """Put its question in front of each passage.

    Args:
        question_XD: vectors of all questions.
        questions: B rows.
        passage_XD: vectors of all passages.
        passages: R rows.
        question_of_passage: [R], never decreasing.
        attention: who attends to whom.
        ids: tokens of all questions, of all passages, and the padding token; for `Joined.ids_X2`.
    """
    in_front = questions.lengths[question_of_passage]
    sides = None if attention == "full" else Sides(in_front, *SEES[attention])
    rows = passages.of(in_front + passages.lengths, sides)
    row = rows.row_X
    token = rows.position_X - in_front[row]
    of_question = questions.starts[question_of_passage[row]] + rows.position_X
    of_passage = len(question_XD) + passages.starts[row] + token
    source = arrays.where(token < 0, of_question, of_passage)
    states = arrays.taken(arrays.concatenate([question_XD, passage_XD]), source)
    passage_R = number_in_group(question_of_passage)
    ids_X2 = None
    if ids is not None:
        ids_X2 = with_the_one_before(arrays.taken(arrays.concatenate(ids[:2]), source), rows, ids[2])
    return Joined(states, rows, token.clip(min=-1), question_of_passage, passage_R, ids_X2)


def fuse(
    joined: Joined[L],
    *,
    keep: int | None,
    question_states_XD: Array,
    questions: Layout,
    question_in_context: Literal["each", "once", "none"],
    question_ids_X2: Array | None = None,
) -> Context:
    """Lay the kept vectors of all rows of a question one after the other.

    Args:
        joined: encoded rows.
        keep: vectors kept of each row, from its start; None keeps all.
        question_states_XD: the questions by themselves, for `once`.
        questions: B rows.
        question_in_context: what becomes of the question's vectors.
        question_ids_X2: tokens of the questions, for `once`, where `joined` has tokens.
    """
    row, token, states, ids = joined.rows.row_X, joined.token_X, joined.states_XD, joined.ids_X2
    if question_in_context != "each" or keep is not None:
        kept = _kept(joined, keep, question_in_context)
        row, token, states = row[kept], token[kept], states[kept]
        ids = None if ids is None else ids[kept]
    question, passage = joined.question_R[row], joined.passage_R[row]
    if question_in_context == "once":
        own = questions.row_X
        order = arrays.grouped(arrays.concatenate([own, question]))
        states = arrays.concatenate([question_states_XD, states])[order]
        if ids is not None and question_ids_X2 is not None:
            ids = arrays.concatenate([question_ids_X2, ids])[order]
        none = arrays.full((len(own),), -1, own, "int64")
        passage, token = (arrays.concatenate([none, x])[order] for x in (passage, token))
        question = arrays.concatenate([own, question])[order]
    counts = arrays.counts(question, len(questions.lengths))
    of_questions = counts.tolist()

    def lay_out(values: Array, fill: int) -> Array:
        # The vectors of a question stand together already; of a single question nothing has to move.
        if len(of_questions) == 1:
            return values[None]
        return arrays.padded(arrays.split(values, of_questions), fill)

    mask_BM = length_mask(counts, max(of_questions))
    ids_BM2 = None if ids is None else lay_out(ids, 0)
    return Context(lay_out(states, 0), mask_BM, lay_out(passage, -1), lay_out(token, -1), ids_BM2=ids_BM2)


def _kept(joined: Joined[L], keep: int | None, question_in_context: Literal["each", "once", "none"]) -> Array:
    """[X], True for the vectors of rows that go into the context."""
    row = joined.rows.row_X
    kept = row >= 0 if question_in_context == "each" else joined.token_X >= 0
    if keep is None:
        return kept
    before = kept.cumsum(0) - arrays.typed(kept, "int64")  # kept ones in front of each vector
    return kept & (before - before[joined.rows.starts[row]] < keep)
