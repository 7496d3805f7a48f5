"""Samples against the distribution they should come from."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.toy import END, Toy, contexts_of, log_probability
from fidkit.context import IGNORED
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.generate import generate, greedy
from fidkit.engine.generation.sampling import draw
from oracles import batch_of, questions, quick, random_reader, small

logits = st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=9, unique=True)


def reference(given: list[float], temperature: float, top_k: int | None, top_p: float) -> np.ndarray:
    """The distribution to draw from, one token after the other."""
    scaled = np.array(given) / temperature
    probabilities = np.exp(scaled - scaled.max())
    order = sorted(range(len(given)), key=lambda token: -given[token])
    for token in order[top_k or len(order) :]:
        probabilities[token] = 0
    probabilities /= probabilities.sum()
    covered = 0.0
    for token in order:
        if covered >= top_p:
            probabilities[token] = 0
        covered += probabilities[token]
    return probabilities / probabilities.sum()


def drawn(given: list[float], points: int, **values) -> np.ndarray:
    """The share of each token when the whole unit interval is tried."""
    uniform = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    rows = torch.tensor(given).log_softmax(-1).repeat(points, 1)
    ids = draw(rows, uniform, Decoding(**values))
    return np.bincount(ids.numpy(), minlength=len(given)) / points


@quick
@given(
    given=logits,
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_k=st.none() | st.integers(1, 10),
    top_p=st.sampled_from([0.05, 0.4, 0.9, 1.0]),
)
def test_temperature_top_k_and_top_p_are_those_of_numpy(given, temperature, top_k, top_p) -> None:
    expected = reference(given, temperature, top_k, top_p)
    found = drawn(given, 4000, temperature=temperature, top_k=top_k, top_p=top_p)
    np.testing.assert_allclose(found, expected, atol=2 / 4000)
    assert not found[expected == 0].any()


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.01, 1), (0.25, 1), (0.26, 2), (0.5, 2), (0.51, 3), (0.75, 3), (0.76, 4), (1.0, 4)]
)
def test_top_p_keeps_the_fewest_tokens_that_reach_it(top_p: float, kept: int) -> None:
    even = drawn([0.0] * 4, 1000, temperature=1, top_p=top_p)  # sums of quarters are exact
    assert (even > 0).tolist() == [True] * kept + [False] * (4 - kept)


@pytest.mark.parametrize("values", [{}, {"top_k": 3}, {"top_p": 0.999}])
def test_what_is_withheld_is_never_drawn(values: dict) -> None:
    given = [-math.inf, 0.0, -math.inf, 1.0, -math.inf]
    found = drawn(given, 1000, temperature=5, **values)
    assert (found > 0).tolist() == [False, True, False, True, False]
    # Not by rounding either, at both ends of the interval.
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    ids = draw(torch.tensor([given] * 2), ends, Decoding(temperature=5, **values))
    assert set(ids.tolist()) == {1, 3}


@pytest.mark.parametrize("values", [{}, {"temperature": 0.5}, {"top_k": 2}, {"top_p": 0.6}])
def test_answers_come_in_their_proportions(values: dict) -> None:
    """Chi-square over all answers of two tokens; seeds are fixed, so nothing here is left to chance."""
    toy, n = Toy(), 4000
    decoding = Decoding(max_tokens=2, n_best=n, **({"temperature": 1.0} | values))
    generated = generate(toy, contexts_of(7), decoding)
    rows = [tuple(t for t in row if t != IGNORED) for row in generated.ids_BT.tolist()]

    def probability(answer: tuple[int, ...]) -> float:
        p = 1.0
        for i, token in enumerate(answer):
            given = toy.logits(7, answer[:i]).tolist()
            p *= reference(given, decoding.temperature, decoding.top_k, decoding.top_p)[token]
        return p

    answers = [(END,), *((a, b) for a, b in itertools.product(range(5), repeat=2) if a != END)]
    expected = {answer: n * probability(answer) for answer in answers}
    assert sum(expected.values()) == pytest.approx(n)
    assert all(expected[row] > 0 for row in rows)
    possible = [answer for answer in answers if expected[answer] > 0]
    chi_square = sum((rows.count(a) - expected[a]) ** 2 / expected[a] for a in possible)
    freedom = len(possible) - 1
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom)


def test_log_probabilities_are_the_readers_own() -> None:
    """Not those after temperature, top-k or what was withheld."""
    toy = Toy()
    decoding = Decoding(max_tokens=4, min_tokens=3, temperature=0.4, top_k=3, n_best=6)
    generated = generate(toy, contexts_of(1, 2), decoding)
    for number, row in enumerate(generated.ids_BT.tolist()):
        answer = [t for t in row if t != IGNORED]
        expected = log_probability(toy.next(1 + number // 6), answer)
        assert float(generated.log_probabilities_BT[number].sum()) == pytest.approx(expected, abs=1e-4)
        assert float(generated.scores[number]) == pytest.approx(expected / len(answer), abs=1e-4)


def test_the_best_sample_comes_first() -> None:
    generated = generate(Toy(), contexts_of(1, 2, 3), Decoding(max_tokens=5, temperature=1, n_best=7))
    scores = generated.scores.view(3, 7)
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    assert len({tuple(row) for row in generated.ids_BT[:7].tolist()}) > 3
    assert generated.best.ids_BT.tolist() == generated.ids_BT[::7, : generated.best.ids_BT.shape[1]].tolist()


def samples(reader, examples, **values) -> list[tuple[int, ...]]:
    with torch.no_grad():
        generated = generate(reader, reader.read(batch_of(examples)), Decoding(temperature=1, **values))
    return [tuple(t for t in row if t != IGNORED) for row in generated.ids_BT.tolist()]


@quick
@given(examples=questions(most=3), seed=st.integers(0, 99))
def test_samples_do_not_depend_on_the_questions_beside(examples, seed: int) -> None:
    reader = random_reader(small(), 1)
    together = samples(reader, examples, max_tokens=5, n_best=2, seed=seed)
    alone = [row for one in examples for row in samples(reader, [one], max_tokens=5, n_best=2, seed=seed)]
    assert together == alone


def test_a_seed_is_a_sample_and_another_seed_another() -> None:
    reader, example = random_reader(small(), 1), [([3, 4], [[5, 6], [7]], [1])]
    first, again, other = (samples(reader, example, max_tokens=8, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    # The one that is drawn alone is among several drawn with the same seed.
    assert first[0] in samples(reader, example, max_tokens=8, n_best=5)


def test_very_low_temperature_is_greedy() -> None:
    toy, context = Toy(), contexts_of(1, 2, 3)
    cold = generate(toy, context, Decoding(max_tokens=6, temperature=1e-320))
    assert cold.ids_BT.tolist() == greedy(toy, context, 6).ids_BT.tolist()


def test_where_nothing_may_follow_others_are_drawn_as_ever() -> None:
    """An answer that has ended keeps its row until the others have; NumPy would warn of infinities."""
    log_probabilities = np.log(np.array([[0.2, 0.8], [0.5, 0.5]], np.float32))
    uniform, how = np.array([0.5, 0.1]), Decoding(temperature=1.0)
    expected = draw(log_probabilities, uniform, how)[0]
    log_probabilities[1] = -np.inf
    for chosen in (how, replace(how, top_k=1), replace(how, top_p=0.9)):
        assert draw(log_probabilities, uniform, chosen)[0] == expected
