"""How far a confidence can be trusted, and the calibration that makes it so. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fidkit.calibration import SIGNALS, Calibration, Signal
from fidkit.errors import DataError

COVERAGES = tuple(range(10, 101, 10))
_BINS = 10
_RIDGE = 1.0
_FOLDS = 5
_STEPS = 100

Signals = Sequence[Mapping[str, float]]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Reliability:
    """Of answers with their confidence.

    Attributes:
        expected_error: expected calibration error in points (0 to 100): the distance of mean confidence and
            share of right answers in each of ten equally filled bins, averaged (Guo et al., arXiv 1706.04599,
            with bins of equal mass).
        coverage: percent of right answers among the so many percent of which the reader is surest.
    """

    expected_error: float
    coverage: dict[int, float]


def reliability(confidences: Sequence[float], right: Sequence[bool]) -> Reliability:
    """Judge confidences by which answers were right, in the same order."""
    order = np.argsort(-np.asarray(confidences), kind="stable")
    sure, hit = np.asarray(confidences, dtype=float)[order], np.asarray(right, dtype=float)[order]
    error = sum(
        len(p) * abs(p.mean() - h.mean())
        for p, h in zip(np.array_split(sure, _BINS), np.array_split(hit, _BINS), strict=True)
        if len(p)
    )
    some = {percent: hit[: max(1, round(len(hit) * percent / 100))] for percent in COVERAGES}
    return Reliability(
        100 * float(error) / len(hit), {percent: 100 * float(part.mean()) for percent, part in some.items()}
    )


def fit(signals: Signals, right: Sequence[bool], *, keep: float, fitted_on: str = "") -> Calibration:
    """A logistic regression on signals, slightly drawn to 0, by Newton's method.

    Args:
        signals: of each answer (`fidkit.calibration.SIGNALS`).
        right: which answers were.
        keep: share of right answers that must not be withheld; the threshold is the highest that keeps so
            many.
        fitted_on: what, in words.

    Raises:
        DataError: no answer was right, or all were.
    """
    if len(set(right)) < 2:
        raise DataError(
            f"{sum(right)} of {len(right)} answers were right; expected some of both kinds to calibrate on: "
            "give more questions, and some passages without an answer (--context foreign)"
        )
    x, names, means, deviations = _standardised(signals)
    y = np.asarray(right, dtype=float)
    weights = _newton(x, y)
    made = {
        name: Signal(weight=float(w), mean=float(m), deviation=float(d))
        for name, w, m, d in zip(names, weights[1:], means, deviations, strict=True)
    }
    found = Calibration(signals=made, intercept=float(weights[0]), threshold=0.0, fitted_on=fitted_on)
    kept = sorted((found.confidence(s) for s, r in zip(signals, right, strict=True) if r), reverse=True)
    last = kept[min(len(kept), max(1, int(np.ceil(keep * len(kept))))) - 1]
    return found.replace(threshold=last)  # type: ignore[no-any-return]


def across(signals: Signals, right: Sequence[bool], groups: Sequence[str]) -> list[float]:
    """Confidence in each answer by a calibration that was fitted on the others: five folds.

    Args:
        signals: of each answer.
        right: which were.
        groups: of each answer; answers of a group (of one question) are in the same fold.

    Raises:
        DataError: too few answers of either kind.
    """
    numbers = {group: number % _FOLDS for number, group in enumerate(dict.fromkeys(groups))}
    fold = [numbers[group] for group in groups]
    confidences = [0.0] * len(signals)
    for left_out in range(_FOLDS):
        others = [n for n, f in enumerate(fold) if f != left_out]
        fitted = fit([signals[n] for n in others], [right[n] for n in others], keep=1.0)
        for n, f in enumerate(fold):
            if f == left_out:
                confidences[n] = fitted.confidence(signals[n])
    return confidences


def _standardised(signals: Signals) -> tuple[Array, list[str], Array, Array]:
    """[N, 1 + S] with a column of ones; what is absent is 0. Signals that never vary are left out."""
    table = np.array([[row.get(name, np.nan) for name in SIGNALS] for row in signals])
    there = ~np.isnan(table).all(0)
    means, deviations = np.nanmean(table[:, there], 0), np.nanstd(table[:, there], 0)
    names = [name for name, is_there in zip(SIGNALS, there, strict=True) if is_there]
    varies = deviations > 1e-9
    x = (table[:, there][:, varies] - means[varies]) / deviations[varies]
    x = np.concatenate([np.ones((len(x), 1)), np.nan_to_num(x)], 1)
    return x, [n for n, v in zip(names, varies, strict=True) if v], means[varies], deviations[varies]


def _newton(x: Array, y: Array) -> Array:
    penalty = np.full(x.shape[1], _RIDGE)
    penalty[0] = 0.0
    weights = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -50, 50)))
        gradient = x.T @ (p - y) + penalty * weights
        curvature = (x.T * (p * (1 - p))) @ x + np.diag(penalty) + 1e-9 * np.eye(len(weights))
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-8:
            break
    return weights
