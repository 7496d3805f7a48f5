"""Greedy decoding, step by step: the plain loop that faster engines are tested against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fidkit.batch import IGNORED, Context
from fidkit.reader import Reader


@dataclass(frozen=True)
class Generated:
    """Tokens of B questions.

    Attributes:
        ids_BT: generated tokens, end of sequence included, then `IGNORED`; usable as labels.
        log_probabilities_BT: of each token, 0 after the end.
    """

    ids_BT: Tensor
    log_probabilities_BT: Tensor

    @property
    def lengths(self) -> Tensor:
        """Tokens of each question, end of sequence included."""
        return (self.ids_BT != IGNORED).sum(1)

    @property
    def scores(self) -> Tensor:
        """Mean log-probability of each question's tokens."""
        return self.log_probabilities_BT.sum(1) / self.lengths.clamp(min=1)


@torch.inference_mode()
def greedy(
    reader: Reader, context: Context, max_new_tokens: int = 32, watch: Callable[[Tensor], None] | None = None
) -> Generated:
    """The likeliest next token, again and again, until every question has ended.

    Args:
        reader: in eval mode.
        context: of B questions.
        max_new_tokens: stop here at the latest.
        watch: sees the tokens [B] of each step as they come.
    """
    end = reader.config.end_token
    B = context.states_BMD.shape[0]
    last = torch.full((B,), reader.config.pad_token, device=context.states_BMD.device)
    running = torch.ones(B, dtype=torch.bool, device=last.device)
    cache = reader.start(context, max_new_tokens)
    ids, log_probabilities = [], []
    for _ in range(max_new_tokens):
        value, last = reader.step(last, cache).log_softmax(-1).max(-1)
        ids.append(last.masked_fill(~running, IGNORED))
        log_probabilities.append(value.masked_fill(~running, 0.0))
        if watch is not None:
            watch(ids[-1])
        running = running & (last != end)
        if not running.any():
            break
    return Generated(torch.stack(ids, 1), torch.stack(log_probabilities, 1))
