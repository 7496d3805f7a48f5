"""Rows sorted by length into sub-batches, so that little padding is computed, and back to questions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fidkit.bench.questions import Questions, Tokens


@dataclass(frozen=True)
class SubBatch:
    """R rows of nearly one length that are encoded together, padded to the longest.

    Attributes:
        rows: which rows, by their places among all rows.
        ids: tokens [R, S].
        mask: 1 where there is a token [R, S].
        padded: some rows are shorter than others.
    """

    rows: Sequence[int]
    ids: Tensor
    mask: Tensor
    padded: bool


class SortedRows:
    """All rows of B questions in sub-batches, longest first.

    Args:
        questions: with any number of passages.
        size: rows of a sub-batch, at most.
        pad: token of padding.
        device: where sub-batches lie.

    Attributes:
        batches: the sub-batches.
        mask_BM: which of the fused vectors there are; all of them of one question.
    """

    def __init__(self, questions: Questions, size: int, pad: int, device: torch.device) -> None:
        rows = questions.rows
        self._lengths = [len(row) for row in rows]
        self._each = len(rows) // len(questions.questions)
        self.batches = [sub_batch(rows, places, pad, device) for places in sorted_places(self._lengths, size)]
        totals = [sum(self._lengths[i : i + self._each]) for i in range(0, len(rows), self._each)]
        self.mask_BM = torch.tensor(
            [[1] * total + [0] * (max(totals) - total) for total in totals], device=device
        )
        self.even = len(set(totals)) == 1
        """No question has fewer vectors than another."""

    @property
    def padded_tokens(self) -> int:
        """Tokens that are computed, padding included."""
        return sum(batch.ids.numel() for batch in self.batches)

    def fuse(self, states: Iterable[Tensor]) -> Tensor:
        """States [R, S, D] of the sub-batches as those of questions [B, M, D]; rows in their order.

        Padding of rows is left out. What one question has fewer vectors than the longest is 0.
        """
        by_row: list[Tensor] = [self.mask_BM] * len(self._lengths)
        for batch, states_RSD in zip(self.batches, states, strict=True):
            for place, states_SD in zip(batch.rows, states_RSD, strict=True):
                by_row[place] = states_SD[: self._lengths[place]]
        by_question = [
            torch.cat(by_row[first : first + self._each]) for first in range(0, len(by_row), self._each)
        ]
        if len(by_question) == 1:
            return by_question[0][None]
        return torch.nn.utils.rnn.pad_sequence(by_question, batch_first=True)


def sub_batch(rows: Sequence[Tokens], places: Sequence[int], pad: int, device: torch.device) -> SubBatch:
    """The rows at these places."""
    chosen = [rows[place] for place in places]
    return SubBatch(places, *pad_rows(chosen, pad, device), padded=len(set(map(len, chosen))) > 1)


def sorted_places(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Places of rows, longest first, in pieces of `size`."""
    places = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    return [places[first : first + size] for first in range(0, len(places), size)]


def pad_rows(rows: Sequence[Tokens], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and mask [R, S] of rows, padded on the right to the longest."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return ids, mask
