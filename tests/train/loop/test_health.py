"""Divergence is found, ordinary noise is not."""

import json
import math
import random
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from fidkit.train.loop.health import LEAST, RECENT, Health
from fidkit.train.optimisers.make import make_optimiser
from fidkit.train.specs import HealthSpec, OptimiserSpec
from oracles import batch_of, quick, random_reader, small

FOUND_WITHIN = RECENT // 2 + 1
few = settings(quick, suppress_health_check=[HealthCheck.too_slow])


def measured() -> list[list[float]]:
    """Losses of real runs, means of 50 steps each, a curve for each stage."""
    path = Path(__file__).parents[2] / "golden" / "losses.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    curves: list[list[float]] = [[]]
    for row in (r for r in rows if r["kind"] == "train"):
        # The bounds of the recipes' stages, where data and losses are others.
        if row["step"] == 50 or row["loss"] > 1.15 * curves[-1][-1]:
            curves.append([])
        curves[-1].append(row["loss"])
    return [curve for curve in curves if len(curve) > 4]


def between(curve: list[float], place: float) -> float:
    below = min(int(place), len(curve) - 2)
    return curve[below] + (place - below) * (curve[below + 1] - curve[below])


CURVES = {
    "power law": lambda t: 1.5 + 6 * (t + 1) ** -0.4,
    "plateau, then a fall": lambda t: 10.4 if t < 200 else max(2.0, 10.4 * math.exp(-(t - 200) / 150)),
    "to nothing": lambda t: 3 * math.exp(-t / 100),
    "flat": lambda t: 2.0,
    **{f"real {n}": lambda t, c=c: between(c, t / 50) for n, c in enumerate(measured())},
}


def noise(kind: str, size: float, seed: int):
    generator = random.Random(seed)
    while True:
        normal = generator.gauss(0, 1)
        if kind == "heavy tails":
            normal /= math.sqrt(generator.gammavariate(1.5, 1 / 1.5))
        outlier = 5.0 if kind == "outliers" and generator.random() < 0.03 else 1.0
        yield math.exp(size * normal) * outlier


curves = st.sampled_from(sorted(CURVES))
kinds = st.sampled_from(["normal", "outliers", "heavy tails"])
seeds = st.integers(0, 10_000)


@few
@given(curve=curves, kind=kinds, size=st.floats(0, 0.5), seed=seeds)
def test_no_false_alarm(curve: str, kind: str, size: float, seed: int) -> None:
    health, factors = Health(HealthSpec()), noise(kind, size, seed)
    said = [health.see(CURVES[curve](t) * next(factors), 1.0) for t in range(600)]
    assert said == [None] * 600


@few
@given(
    curve=curves,
    size=st.floats(0, 0.2),
    seed=seeds,
    start=st.integers(LEAST + RECENT, 500),
    rise=st.floats(3, 1e6),
)
def test_a_divergence_is_found_within_steps(
    curve: str, size: float, seed: int, start: int, rise: float
) -> None:
    # Near zero, a rise counts only where it is one in nats.
    health, factors = Health(HealthSpec()), noise("normal", size, seed)
    for t in range(start):
        assert health.see(CURVES[curve](t) * next(factors), 1.0) is None
    sick = [health.see((1 + CURVES[curve](start)) * rise * next(factors), 1.0) for _ in range(FOUND_WITHIN)]
    assert "the loss has risen to" in str(sick[-1])
    assert sick[:-1].count(None) >= FOUND_WITHIN - 3


@pytest.mark.parametrize("steps", [100, 400])
def test_a_slow_divergence_is_found_as_well(steps: int) -> None:
    health, factors = Health(HealthSpec()), noise("normal", 0.05, 1)
    healthy = [health.see(2 * next(factors), 1.0) for _ in range(300)]
    slow = [health.see(2 * 4 ** (t / steps) * next(factors), 1.0) for t in range(steps)]
    assert healthy == [None] * 300
    assert slow[-1] is not None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_said_at_once(bad: float) -> None:
    assert Health(HealthSpec()).see(bad, 1.0) == f"the loss is {bad}"
    assert Health(HealthSpec()).see(1.0, bad) == f"the norm of the gradient is {bad}"


def test_a_bad_batch_is_let_pass_but_no_checkpoint_goes_there() -> None:
    health = Health(HealthSpec())
    for _ in range(50):
        assert health.see(2.0, 1.0) is None
    assert not health.suspicious
    assert health.see(40.0, 1.0) is None
    assert health.suspicious
    for _ in range(RECENT):
        assert health.see(2.0, 1.0) is None
    assert not health.suspicious


def test_a_new_stage_has_other_losses() -> None:
    told, untold = Health(HealthSpec()), Health(HealthSpec())
    for health in (told, untold):
        for _ in range(100):
            health.see(1.0, 1.0)
    told.new_stage()
    assert {told.see(3.0, 1.0) for _ in range(60)} == {None}
    assert {untold.see(3.0, 1.0) for _ in range(60)} != {None}


@few
@given(seed=seeds, step=st.integers(0, 150))
def test_restored_it_says_the_same(seed: int, step: int) -> None:
    factors = noise("normal", 0.1, seed)
    losses = [2 * next(factors) for _ in range(step)]
    rest = [2 * 1.03**t * next(factors) for t in range(150)]
    one, other = Health(HealthSpec(window=50)), Health(HealthSpec(window=50))
    for loss in losses:
        one.see(loss, 1.0)
    state = json.loads(json.dumps(one.state()))
    said = [one.see(loss, 1.0) for loss in rest]
    for _ in range(200):  # what came in between is forgotten
        other.see(1e-3, 1.0)
    other.restore(state)
    assert [other.see(loss, 1.0) for loss in rest] == said
    assert any(said)


def test_the_window_is_of_ordinary_losses() -> None:
    """Beside the recent ones, which are judged."""
    health = Health(HealthSpec(window=20))
    for step in range(100):
        health.see(2.0 + step, 1.0)
    assert [round(math.exp(log)) - 2 for log in health.state()["logs"]] == list(range(80 - RECENT, 100))


@pytest.mark.parametrize(
    ("kind", "rate"),
    [
        pytest.param("adamw", 1e-3, marks=pytest.mark.slow),
        *(pytest.param(k, 3e-3, marks=pytest.mark.slow) for k in ("adamw-scaled", "hybrid")),
    ],
)
def test_a_rate_a_thousand_times_too_high_is_found_in_training(kind: str, rate: float) -> None:
    reader, generator = random_reader(small()).train(), random.Random(0)
    optimiser = make_optimiser(OptimiserSpec(kind=kind, rate=rate), reader, nn.Linear(2, 2))
    health, found = Health(HealthSpec()), {}
    for step in range(130):
        for group in optimiser.param_groups:
            group["lr"] = rate * (1000 if 100 <= step < 110 else 1)
        # Copy one of four tokens: each batch is new, so that losses are as noisy as ever.
        words = [[generator.randrange(2, 37) for _ in range(4)] for _ in range(8)]
        loss = reader(batch_of([(w[:1], [w[1:]], [w[0], 1]) for w in words])).loss
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0))
        optimiser.step()
        optimiser.zero_grad()
        if reason := health.see(float(loss.detach()), norm):
            found[step] = reason
    assert found
    assert 100 < min(found) <= 112
