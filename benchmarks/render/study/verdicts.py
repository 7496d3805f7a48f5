"""The rules by which rows decide whether a finding of a paper is found here as well."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

REPRODUCED, ORDER, NOT = "reproduced", "same order", "not reproduced"
OPEN = "open"
SEEDS = 3
LITTLE = 1.0
"""Points of exact match that count as little."""
BySeed = Mapping[int, float]
Right = Mapping[str, str]
"""By dataset, a character a question: 1 where it was answered right, else 0."""

RULES = f"""\
A verdict is drawn by a program from exact match, the mean of both sets, of {SEEDS} seeds; seeds that two \
readers share are compared one by one. The *spread* is the wider of the two readers' ranges over seeds.

- A reader is *about as good* as another (**{REPRODUCED}**) if the mean difference is at most {LITTLE:g} \
point or within the spread, or if it is better. If it is worse by no more than {3 * LITTLE:g} points, it is \
the **{ORDER}**.
- A reader is *clearly worse* (**{REPRODUCED}**) if it is worse with every seed, and by more than the spread \
on average. If it is worse on average alone, it is the **{ORDER}**.
- A quantity *grows* (**{REPRODUCED}**) if no step of it goes down; if a step goes down by no more than the \
spread while the last is above the first, it is the **{ORDER}**.
- Where nothing is trained, there are no seeds. Two readers are compared question by question, and the \
*spread* is twice the standard error of the mean difference.
- All else is **{NOT}**. With fewer than {SEEDS} seeds a finding is **{OPEN}**, and what is known so far is \
said."""


@dataclass(frozen=True)
class Verdict:
    """What the rows say of a finding.

    Attributes:
        word: one of those above.
        ours: our numbers, in words.
    """

    word: str
    ours: str


def about_as_good(one: BySeed, other: BySeed) -> Verdict:
    """Whether `one` loses little beside `other`."""
    return _compared(one, other, _as_good)


def clearly_worse(one: BySeed, other: BySeed) -> Verdict:
    """Whether `one` loses much beside `other`."""
    return _compared(one, other, _worse)


def answers_as_well(one: Right, other: Right) -> Verdict:
    """`about_as_good` of readers that weren't trained."""
    return _question_by_question(one, other, _as_good)


def answers_worse(one: Right, other: Right) -> Verdict:
    """`clearly_worse` of readers that weren't trained."""
    return _question_by_question(one, other, _worse)


def growing(steps: Sequence[tuple[str, BySeed]]) -> Verdict:
    """Whether means grow from step to step; a step is a label and what was measured there."""
    seeds = set.intersection(*(set(values) for _, values in steps)) if steps else set()
    if not seeds:
        return Verdict(OPEN, "no seed has all of them yet")
    means = [statistics.mean(values[seed] for seed in seeds) for _, values in steps]
    spread = max(map(_range, ({s: values[s] for s in seeds} for _, values in steps)))
    falls = [before - after for before, after in pairwise(means) if after < before]
    word = REPRODUCED if not falls else ORDER if max(falls) <= spread and means[-1] > means[0] else NOT
    said = ", ".join(f"{label}: {mean:.1f}" for (label, _), mean in zip(steps, means, strict=True))
    return _decided(word, said, len(seeds))


def _compared(one: BySeed, other: BySeed, rule: Callable[[Sequence[float], float], str]) -> Verdict:
    shared = sorted(one.keys() & other.keys())
    if not shared:
        return Verdict(OPEN, "no seed has both yet")
    differences = [one[seed] - other[seed] for seed in shared]
    spread = max(_range({seed: values[seed] for seed in shared}) for values in (one, other))
    a, b = (statistics.mean(values[seed] for seed in shared) for values in (one, other))
    said = f"{a:.1f} beside {b:.1f}: {a - b:+.1f} (spread {spread:.1f})"
    return _decided(rule(differences, spread), said, len(shared))


def _question_by_question(one: Right, other: Right, rule: Callable[[Sequence[float], float], str]) -> Verdict:
    """Over the questions that both were asked, which are the first of each set."""
    if not one or not other:
        return Verdict(OPEN, "not both are measured yet")
    pairs = [[(int(a), int(b)) for a, b in zip(one[name], other[name], strict=False)] for name in one]
    a, b = (
        100 * statistics.mean(statistics.mean(pair[n] for pair in of_set) for of_set in pairs) for n in (0, 1)
    )
    errors = [statistics.variance([a - b for a, b in of_set]) / len(of_set) for of_set in pairs]
    spread = 100 * 2 * sum(errors) ** 0.5 / len(pairs)
    return Verdict(rule([a - b], spread), f"{a:.1f} beside {b:.1f}: {a - b:+.1f} (spread {spread:.1f})")


def _as_good(differences: Sequence[float], spread: float) -> str:
    mean = statistics.mean(differences)
    if -mean <= max(LITTLE, spread):
        return REPRODUCED
    return ORDER if -mean <= 3 * LITTLE else NOT


def _worse(differences: Sequence[float], spread: float) -> str:
    mean = statistics.mean(differences)
    if max(differences) < 0 and -mean > spread:
        return REPRODUCED
    return ORDER if mean < 0 else NOT


def _decided(word: str, said: str, seeds: int) -> Verdict:
    if seeds < SEEDS:
        return Verdict(f"{OPEN}, so far {word}", f"{said}; {seeds} of {SEEDS} seeds")
    return Verdict(word, said)


def _range(values: BySeed) -> float:
    return max(values.values()) - min(values.values())
