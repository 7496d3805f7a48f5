"""Losses that show a small reader where to look. Used while training only; nothing of them is shipped.

All three need an answer that stands in a passage:
- guide: in the last layers with cross-attention, some heads should look at the very token that is to be
  written next;
- pointer: from the context alone, which vector starts and which ends the answer;
- overlap: after two encoder layers, which passage tokens also occur in the question.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fidkit.context import Batch, Context
from fidkit.engine.generation.rules import occurrences
from fidkit.fusion import length_mask
from fidkit.nn.rows import Rows
from fidkit.reader import Reader
from fidkit.train.specs import AuxiliaryLoss, GuideSpec

OVERLAP_LAYER = 1
ALL: tuple[AuxiliaryLoss, ...] = get_args(AuxiliaryLoss)
_NEVER = -1e9


@dataclass(frozen=True)
class Places:
    """Where targets stand in passages: one entry for each target token and place.

    Attributes:
        question, step, passage, token: [K] each; `token` of `passage` is what is to be written at `step`.
        first, last: [K], whether the entry is the first or last token of the answer.
    """

    question: Tensor
    step: Tensor
    passage: Tensor
    token: Tensor
    first: Tensor
    last: Tensor

    def to(self, device: torch.device) -> Places:
        return Places(*(getattr(self, f.name).to(device) for f in fields(self)))


def find_places(passages: Sequence[Sequence[Sequence[int]]], targets: Sequence[Sequence[int]]) -> Places:
    """Look for each target (without its end of sequence) in the passages of its question.

    Args:
        passages: tokens of each passage of each question.
        targets: tokens of each target, end of sequence included.
    """
    rows: list[tuple[int, int, int, int, bool, bool]] = []
    for number, (of_question, target) in enumerate(zip(passages, targets, strict=True)):
        answer = list(target[:-1])
        for passage, tokens in enumerate(of_question):
            for start in occurrences(tokens, answer):
                rows += [
                    (number, step, passage, start + step, step == 0, step == len(answer) - 1)
                    for step in range(len(answer))
                ]
    columns = list(zip(*rows, strict=True)) or [()] * 6
    whole = [torch.tensor(column, dtype=torch.long) for column in columns[:4]]
    return Places(*whole, *(torch.tensor(column, dtype=torch.bool) for column in columns[4:]))


class Auxiliary(nn.Module):
    """The auxiliary losses of one reader, with the two small heads that they need.

    Args:
        reader: to be trained.
        guide: which layers and heads of its cross-attention are guided.
    """

    def __init__(self, reader: Reader, guide: GuideSpec | None = None) -> None:
        super().__init__()
        width = reader.config.context_width
        self.pointer = nn.Linear(width, 2)
        self.overlap = nn.Linear(width, 1)
        cross = [number for number, reads in enumerate(reader.config.cross_layers) if reads]
        guide = guide or GuideSpec()
        self._guided = cross[-guide.layers :]
        self._heads = None if guide.heads == "all" else guide.heads
        self._scores: list[Tensor] = []
        self._early: Tensor | None = None
        rerank, layers = reader.config.rerank, reader.live_encoder.layers
        seeing_all = rerank.after if rerank else len(layers)
        if seeing_all:
            layers[min(OVERLAP_LAYER, seeing_all - 1)].register_forward_hook(self._keep_early)

    def _keep_early(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        self._early = output if self.training else None

    def probe(self, layer: int, scores: Tensor) -> None:
        """Pass this to `Reader.decode`."""
        if layer in self._guided:
            self._scores.append(scores[:, : self._heads])

    def losses(
        self, batch: Batch, context: Context, places: Places, wanted: Collection[AuxiliaryLoss] = ALL
    ) -> dict[str, Tensor]:
        """Those of the three losses that are `wanted`; empty ones are left out. Forgets what it saw."""
        scores, self._scores = self._scores, []
        early, self._early = self._early, None
        found = {}
        position, kept = _positions_in(context, batch, places)
        if kept.any() and "guide" in wanted:
            found["guide"] = _guide(scores, places, position, kept)
        if kept.any() and "pointer" in wanted:
            found["pointer"] = _point(
                self.pointer(context.states_BMD).float(), context.mask_BM, places, position, kept
            )
        if early is not None and "overlap" in wanted:
            found["overlap"] = self._overlap(early, batch)
        return found

    def _overlap(self, early_XD: Tensor, batch: Batch) -> Tensor:
        question = batch.question_ids[batch.question_of_passage]
        lengths = batch.question_lengths[batch.question_of_passage]
        mask = length_mask(lengths, question.shape[1])
        shared = ((batch.passage_ids[:, :, None] == question[:, None, :]) & mask[:, None, :]).any(2)
        joined, passages = Rows(lengths + batch.passage_lengths), Rows(batch.passage_lengths)
        states = early_XD[joined.position_X >= lengths[joined.row_X]]
        logits = self.overlap(F.rms_norm(states, states.shape[-1:])).float().squeeze(-1)
        return F.binary_cross_entropy_with_logits(logits, passages.pack(shared).float())


def _positions_in(context: Context, batch: Batch, places: Places) -> tuple[Tensor, Tensor]:
    """Index of each place in the context, and whether it was kept there."""
    B, width = context.mask_BM.shape[0], batch.passage_ids.shape[1]
    most = int(torch.bincount(batch.question_of_passage).max())
    table = torch.full((B, most * width), -1, dtype=torch.long, device=context.mask_BM.device)
    b, m = (context.token_BM >= 0).nonzero(as_tuple=True)
    table[b, context.passage_BM[b, m] * width + context.token_BM[b, m]] = m
    position = table[places.question, places.passage * width + places.token]
    return position, position >= 0


def _guide(scores: list[Tensor], places: Places, position: Tensor, kept: Tensor) -> Tensor:
    B, _, T, M = scores[0].shape
    wanted = torch.zeros(B, T, M, dtype=torch.bool, device=position.device)
    wanted[places.question[kept], places.step[kept], position[kept]] = True
    steps = wanted.any(-1)
    losses = []
    for layer in scores:
        missed = layer.logsumexp(-1) - layer.masked_fill(~wanted[:, None], _NEVER).logsumexp(-1)
        losses.append(missed.transpose(1, 2)[steps].mean())
    return torch.stack(losses).mean()


def _point(logits_BM2: Tensor, mask_BM: Tensor, places: Places, position: Tensor, kept: Tensor) -> Tensor:
    logits = logits_BM2.masked_fill(~mask_BM[:, :, None], _NEVER)
    wanted = torch.zeros_like(logits, dtype=torch.bool)
    for column, chosen in enumerate((places.first & kept, places.last & kept)):
        wanted[places.question[chosen], position[chosen], column] = True
    missed = logits.logsumexp(1) - logits.masked_fill(~wanted, _NEVER).logsumexp(1)
    return missed[wanted.any(1)].mean()
