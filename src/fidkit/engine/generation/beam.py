"""Beam search.

Each step extends the W running hypotheses of a question by every token and looks at the 2 W best extensions
by summed log-probability. Those of the best W that end become finished hypotheses, of which the best W are
kept; the best W that don't end run on. A question's search ends when W hypotheses are finished and none that
runs scores better than the worst of them, and what scores best is its answer; at the last token everything
ends. So short answers that come to nothing can't end the search for a longer one that is far more likely.
With one beam it ends with the first, which is greedy decoding. With several it is what `transformers` does by
default.

Letters as in `fidkit.engine.generation.steps`; K = 2 W extensions of a question.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fidkit.context import IGNORED, Context
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.rules import Rules
from fidkit.engine.generation.steps import C, Generated, Steps, time_to_look

_NONE = float("-inf")


@dataclass(frozen=True)
class _Hypotheses:
    """W or K hypotheses of each question; a score of -inf says that there is none."""

    scores_BW: Tensor
    ids_BWT: Tensor
    log_probabilities_BWT: Tensor

    @classmethod
    def none(cls, B: int, W: int, T: int, device: torch.device) -> _Hypotheses:
        return cls(
            torch.full((B, W), _NONE, device=device),
            torch.full((B, W, T), IGNORED, device=device),
            torch.zeros(B, W, T, device=device),
        )

    def at(self, index_BK: Tensor, scores_BK: Tensor) -> _Hypotheses:
        """Those with the given numbers, with new scores."""
        index_BKT = index_BK[..., None].expand(-1, -1, self.ids_BWT.shape[2])
        return _Hypotheses(
            scores_BK, self.ids_BWT.gather(1, index_BKT), self.log_probabilities_BWT.gather(1, index_BKT)
        )

    def best(self, scores_BK: Tensor, W: int) -> tuple[_Hypotheses, Tensor]:
        """The W best by these scores, the best first, and their numbers."""
        top_BW, index_BW = scores_BK.topk(W, dim=1)
        return self.at(index_BW, top_BW), index_BW

    def with_more(self, other: _Hypotheses) -> _Hypotheses:
        return _Hypotheses(
            torch.cat([self.scores_BW, other.scores_BW], 1),
            torch.cat([self.ids_BWT, other.ids_BWT], 1),
            torch.cat([self.log_probabilities_BWT, other.log_probabilities_BWT], 1),
        )


def beam_search(source: Steps[C], context: Context, decoding: Decoding, rules: Rules) -> Generated:
    """The `n_best` best finished hypotheses of each question.

    Args:
        source: steps through B * beams rows.
        context: of B questions.
        decoding: beams, lengths, length penalty, n_best.
        rules: what may come next, and what ends.
    """
    device, B = context.states_BMD.device, len(context.states_BMD)
    W, T = decoding.beams, decoding.max_tokens
    cache = source.start(context, T, W)
    last_N = torch.full((B * W,), source.config.pad_token, device=device)
    first_row_B1 = torch.arange(0, B * W, W, device=device)[:, None]
    running, finished = _Hypotheses.none(B, W, T, device), _Hypotheses.none(B, W, T, device)
    running.scores_BW[:, 0] = 0  # all beams start alike, so only one of them counts
    over_B1 = torch.zeros(B, 1, dtype=torch.bool, device=device)
    for t in range(T):
        log_probabilities_NV = source.step(last_N, cache).log_softmax(-1)
        extended, parent_BK = _extend(running, log_probabilities_NV, rules, t)
        ended_BK = rules.ended(extended.ids_BWT[..., : t + 1].flatten(0, 1)).view_as(parent_BK)
        factor = (t + 1) ** decoding.length_penalty
        finished = _finish(finished, extended, (ended_BK | (t == T - 1)) & ~over_B1, factor)
        running, kept_BW = extended.best(extended.scores_BW.masked_fill(ended_BK, _NONE), W)
        over_B1 = over_B1 | _over(running, finished, factor)
        if time_to_look(t, device) and over_B1.all():
            break
        cache.select((first_row_B1 + parent_BK.gather(1, kept_BW)).flatten())
        last_N = running.ids_BWT[..., t].flatten()
    return _generated(finished, decoding)


def _extend(
    running: _Hypotheses, log_probabilities_NV: Tensor, rules: Rules, t: int
) -> tuple[_Hypotheses, Tensor]:
    """The K best extensions by summed log-probability, and the beam [B, K] that each comes from."""
    B, W = running.scores_BW.shape
    V = log_probabilities_NV.shape[1]
    allowed_NV = rules.withhold(log_probabilities_NV, running.ids_BWT[..., :t].flatten(0, 1))
    sums_BWV = running.scores_BW[..., None] + allowed_NV.view(B, W, V)
    sums_BK, place_BK = sums_BWV.flatten(1).topk(2 * W, dim=1)
    parent_BK = place_BK // V
    extended = running.at(parent_BK, sums_BK)
    extended.ids_BWT[..., t] = place_BK % V
    extended.log_probabilities_BWT[..., t] = log_probabilities_NV.view(B, W * V).gather(1, place_BK)
    return extended, parent_BK


def _finish(
    finished: _Hypotheses, extended: _Hypotheses, ended_BK: Tensor, length_factor: float
) -> _Hypotheses:
    """The best W of those finished before and those that ended now."""
    W = finished.scores_BW.shape[1]
    scores_BK = (extended.scores_BW / length_factor).masked_fill(~ended_BK, _NONE)
    scores_BK[:, W:].fill_(_NONE)  # an ending that doesn't make the beam is no finished hypothesis
    together = finished.with_more(extended)
    best, _ = together.best(torch.cat([finished.scores_BW, scores_BK], 1), W)
    return best


def _over(running: _Hypotheses, finished: _Hypotheses, length_factor: float) -> Tensor:
    """[B, 1]: whether W are finished, and none that runs would score better than the worst if it ended now.

    Or none runs. A longer answer may still score better with a length penalty above 0, but the more it
    becomes longer the more it has to be likely; the search doesn't wait for that.
    """
    worst_B1, best_B1 = finished.scores_BW[:, -1:], running.scores_BW[:, :1]
    nothing_better_B1 = best_B1 / length_factor <= worst_B1
    if finished.scores_BW.shape[1] == 1:
        return (worst_B1 > _NONE) | (best_B1 == _NONE)
    return ((worst_B1 > _NONE) & nothing_better_B1) | (best_B1 == _NONE)


def _generated(finished: _Hypotheses, decoding: Decoding) -> Generated:
    n = decoding.n_best
    none_B1 = (finished.scores_BW[:, :n] == _NONE).flatten()[:, None]
    ids_BT = finished.ids_BWT[:, :n].flatten(0, 1).masked_fill(none_B1, IGNORED)
    log_probabilities_BT = finished.log_probabilities_BWT[:, :n].flatten(0, 1).masked_fill(none_B1, 0)
    log_probabilities_BT[:, :1] = log_probabilities_BT[:, :1].masked_fill(none_B1, _NONE)
    return Generated(ids_BT, log_probabilities_BT, n, decoding.length_penalty).trimmed()
