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

from fidkit import arrays
from fidkit.arrays import Array
from fidkit.context import IGNORED, Context
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.rules import Rules
from fidkit.engine.generation.steps import (
    C,
    Generated,
    Steps,
    Stepwise,
    next_log_probabilities,
    time_to_look,
)

_NONE = float("-inf")


@dataclass(frozen=True)
class _Hypotheses:
    """W or K hypotheses of each question; a score of -inf says that there is none."""

    scores_BW: Array
    ids_BWT: Array
    log_probabilities_BWT: Array

    @classmethod
    def none(cls, B: int, W: int, T: int, like: Array) -> _Hypotheses:
        return cls(
            arrays.full((B, W), _NONE, like),
            arrays.full((B, W, T), IGNORED, like, "int64"),
            arrays.full((B, W, T), 0.0, like),
        )

    def at(self, index_BK: Array, scores_BK: Array) -> _Hypotheses:
        """Those with the given numbers, with new scores."""
        index_BK1 = index_BK[..., None]
        ids_BKT = arrays.gather(self.ids_BWT, index_BK1, 1)
        return _Hypotheses(scores_BK, ids_BKT, arrays.gather(self.log_probabilities_BWT, index_BK1, 1))

    def best(self, scores_BK: Array, W: int) -> tuple[_Hypotheses, Array]:
        """The W best by these scores, the best first, and their numbers."""
        top_BW, index_BW = arrays.largest(scores_BK, W)
        return self.at(index_BW, top_BW), index_BW

    def with_more(self, other: _Hypotheses) -> _Hypotheses:
        return _Hypotheses(
            arrays.concatenate([self.scores_BW, other.scores_BW], 1),
            arrays.concatenate([self.ids_BWT, other.ids_BWT], 1),
            arrays.concatenate([self.log_probabilities_BWT, other.log_probabilities_BWT], 1),
        )


def searching_beams(
    source: Steps[C], context: Context, decoding: Decoding, rules: Rules
) -> Stepwise[Generated]:
    """The `n_best` best finished hypotheses of each question, with a pause after each step.

    Args:
        source: steps through B * beams rows.
        context: of B questions.
        decoding: beams, lengths, length penalty, n_best.
        rules: what may come next, and what ends.
    """
    like, B = context.mask_BM, len(context.mask_BM)
    W, T = decoding.beams, decoding.max_tokens
    cache = source.start(context, T, W)
    last_N = arrays.full((B * W,), source.config.pad_token, like, "int64")
    first_row_B1 = W * arrays.arange(B, like)[:, None]
    running, finished = _Hypotheses.none(B, W, T, like), _Hypotheses.none(B, W, T, like)
    running.scores_BW[:, 0] = 0  # all beams start alike, so only one of them counts
    over_B1 = arrays.full((B, 1), 0, like, "bool")
    for t in range(T):
        log_probabilities_NV = next_log_probabilities(source, last_N, cache, t)
        extended, parent_BK = _extend(running, log_probabilities_NV, rules, t)
        ended_BK = rules.ended(_flat(extended.ids_BWT[..., : t + 1])).reshape(parent_BK.shape)
        factor = (t + 1) ** decoding.length_penalty
        finished = _finish(finished, extended, (ended_BK | (t == T - 1)) & ~over_B1, factor)
        running, kept_BW = extended.best(arrays.masked(extended.scores_BW, ended_BK, _NONE), W)
        over_B1 = over_B1 | _over(running, finished, factor)
        if time_to_look(t, like) and over_B1.all():
            break
        cache.select((first_row_B1 + arrays.gather(parent_BK, kept_BW, 1)).flatten())
        last_N = running.ids_BWT[..., t].flatten()
        yield
    return _generated(finished, decoding)


def _extend(
    running: _Hypotheses, log_probabilities_NV: Array, rules: Rules, t: int
) -> tuple[_Hypotheses, Array]:
    """The K best extensions by summed log-probability, and the beam [B, K] that each comes from."""
    B, W = running.scores_BW.shape
    V = log_probabilities_NV.shape[1]
    allowed_NV = rules.withhold(log_probabilities_NV, _flat(running.ids_BWT[..., :t]))
    sums_BWV = running.scores_BW[..., None] + allowed_NV.reshape(B, W, V)
    sums_BK, place_BK = arrays.largest(sums_BWV.reshape(B, W * V), 2 * W)
    parent_BK = place_BK // V
    extended = running.at(parent_BK, sums_BK)
    extended.ids_BWT[..., t] = place_BK % V
    extended.log_probabilities_BWT[..., t] = arrays.gather(
        log_probabilities_NV.reshape(B, W * V), place_BK, 1
    )
    return extended, parent_BK


def _finish(
    finished: _Hypotheses, extended: _Hypotheses, ended_BK: Array, length_factor: float
) -> _Hypotheses:
    """The best W of those finished before and those that ended now."""
    W = finished.scores_BW.shape[1]
    # An ending that doesn't make the beam is no finished hypothesis.
    made_K = arrays.arange(ended_BK.shape[1], ended_BK) < W
    scores_BK = arrays.masked(extended.scores_BW / length_factor, ~(ended_BK & made_K), _NONE)
    together = finished.with_more(extended)
    best, _ = together.best(arrays.concatenate([finished.scores_BW, scores_BK], 1), W)
    return best


def _over(running: _Hypotheses, finished: _Hypotheses, length_factor: float) -> Array:
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
    ids_BT = arrays.masked(_flat(finished.ids_BWT[:, :n]), none_B1, IGNORED)
    log_probabilities_BT = arrays.masked(_flat(finished.log_probabilities_BWT[:, :n]), none_B1, 0)
    log_probabilities_BT[:, :1] = arrays.masked(log_probabilities_BT[:, :1], none_B1, _NONE)
    return Generated(ids_BT, log_probabilities_BT, n, decoding.length_penalty).trimmed()


def _flat(x_BWT: Array) -> Array:
    """[B * W, T]."""
    B, W, T = x_BWT.shape
    return x_BWT.reshape(B * W, T)
