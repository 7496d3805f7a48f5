"""The two records around a reader: what goes in, and the waist that everything after it consumes.

Letters as in `fidkit.nn`; Q question tokens, P passage tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from fidkit.arrays import Array

if TYPE_CHECKING:
    import torch

IGNORED = -100
"""Label of positions that don't count in the loss."""


@dataclass(frozen=True)
class Batch:
    """B questions with any number of passages each, every passage a row of its own.

    Attributes:
        question_ids: [B, Q], padded on the right.
        question_lengths: [B].
        passage_ids: [R, P], padded on the right; passages of a question stand together, in order.
        passage_lengths: [R].
        question_of_passage: [R], which question each passage belongs to, never decreasing.
        labels: [B, T] target tokens with `IGNORED` after the end, or None.
    """

    question_ids: Array
    question_lengths: Array
    passage_ids: Array
    passage_lengths: Array
    question_of_passage: Array
    labels: Array | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same as PyTorch's tensors on a device."""
        moved: dict[str, Any] = {}
        for f in fields(self):
            array = getattr(self, f.name)
            moved[f.name] = None if array is None else _tensor(array).to(device)
        return Batch(**moved)


@dataclass(frozen=True)
class Context:
    """Fused encoder states of all passages of each question: all that the decoder ever sees.

    Attributes:
        states_BMD: one vector a kept token, passages one after the other, padded on the right.
        mask_BM: True where a vector is real.
        passage_BM: which passage of its question a vector came from; -1 for a question block of its own.
        token_BM: which token of that passage; -1 for the question's tokens and padding.
        scores_BN: float32, of all passages of each question, those included that were left behind; -inf
            where a question has fewer. None where the reader doesn't rerank.
        ids_BM2: the number of each vector's token in the vocabulary, and of the one before it in its row.
            None where the reader has no use for them (`ReaderConfig.token_skip`).
    """

    states_BMD: Array
    mask_BM: Array
    passage_BM: Array
    token_BM: Array
    scores_BN: Array | None = None
    ids_BM2: Array | None = None


@dataclass(frozen=True)
class Sight:
    """What a decoder made of an answer's tokens, and where it looked.

    Attributes:
        logits_BTV: of every token given the ones before it, float32.
        mass_BM: attention on each vector of the context, over all heads, layers and real tokens.
        first_BM: that of the last layer with cross-attention when the answer began, over all heads.
    """

    logits_BTV: Array
    mass_BM: Array
    first_BM: Array


def collate(
    questions: Sequence[Sequence[int]],
    passages: Sequence[Sequence[Sequence[int]]],
    targets: Sequence[Sequence[int]] | None = None,
    *,
    pad_token: int = 0,
    empty_passage: Sequence[int] = (),
    tensors: bool = True,
) -> Batch:
    """Batch token lists.

    Args:
        questions: tokens of each question.
        passages: tokens of each passage of each question.
        targets: tokens of each target, end of sequence included.
        pad_token: fills up rows.
        empty_passage: what a question without passages reads.
        tensors: PyTorch's; else NumPy's arrays.
    """
    filled = [list(of_one) or [empty_passage] for of_one in passages]
    rows = [row for of_one in filled for row in of_one]
    question_of_passage = [number for number, of_one in enumerate(filled) for _ in of_one]
    batch = Batch(
        question_ids=pad(questions, pad_token),
        question_lengths=_numbers([len(q) for q in questions]),
        passage_ids=pad(rows, pad_token),
        passage_lengths=_numbers([len(p) for p in rows]),
        question_of_passage=_numbers(question_of_passage),
        labels=None if targets is None else pad(targets, IGNORED),
    )
    return batch.to("cpu") if tensors else batch


def collate_memory(
    questions: Sequence[Sequence[int]],
    passage_lengths: Sequence[Sequence[int]],
    passages: Sequence[Sequence[int]] | None = None,
    *,
    pad_token: int = 0,
) -> Batch:
    """Batch questions whose passages are at hand as memory: `passage_ids` is empty, unless they are given.

    NumPy's arrays; `Batch.to` makes tensors of them.

    Args:
        questions: tokens of each question.
        passage_lengths: tokens of each passage of each question, one passage at least.
        passages: tokens of all passages, for a decoder that reads them beside their states.
        pad_token: fills up questions.
    """
    lengths = _numbers([length for of_one in passage_lengths for length in of_one])
    return Batch(
        question_ids=pad(questions, pad_token),
        question_lengths=_numbers([len(q) for q in questions]),
        passage_ids=np.empty((len(lengths), 0), np.int64) if passages is None else pad(passages, pad_token),
        passage_lengths=lengths,
        question_of_passage=_numbers([n for n, of_one in enumerate(passage_lengths) for _ in of_one]),
    )


def pad(rows: Sequence[Sequence[int]], value: int) -> np.ndarray:
    """[R, longest] int64, filled up on the right."""
    out = np.full((len(rows), max(map(len, rows), default=0)), value, np.int64)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


def _numbers(numbers: Sequence[int]) -> np.ndarray:
    return np.array(numbers, np.int64)


def _tensor(array: Array) -> torch.Tensor:
    import torch

    return torch.from_numpy(array) if isinstance(array, np.ndarray) else array
