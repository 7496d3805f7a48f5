"""Scores learn from which passages hold the answer."""

import math
from typing import Any

import pytest
import torch

from fidkit.reader import Reader
from fidkit.train.data.examples import Example, collate_examples
from fidkit.train.losses.auxiliary import Auxiliary, find_places
from fidkit.train.losses.objectives import Objectives
from fidkit.train.losses.relevance import holding, relevance_loss
from fidkit.train.recipe import Recipe
from fidkit.train.specs import StageSpec
from oracles import random_reader, small

SCORES = torch.tensor([[0.3, -1.0, 2.0], [1.0, 0.5, -torch.inf], [4.0, -2.0, 0.0]])
HOLDS = torch.tensor([[True, False, True], [False, True, False], [False, False, False]])


def test_passages_hold_a_target_that_stands_in_them_without_its_end() -> None:
    passages = [[[5, 9, 6, 7], [9, 6], [6, 9]], [[3, 4]], [[], [8]]]
    found = holding(find_places(passages, [[9, 6, 1], [1], [8, 1]]), SCORES)
    assert found.tolist() == [[True, True, False], [False, False, False], [False, True, False]]


def test_a_question_without_passages_has_a_score_and_no_answer() -> None:
    examples = [Example([4], [], [10, 1])]
    reader = random_reader(small(rerank={"after": 1, "keep": 2}))
    scores = reader.read(collate_examples(examples).to("cpu")).scores_BN
    holds = holding(find_places([[]], [[10, 1]]), scores)
    assert holds.tolist() == [[False]]
    assert scores.shape == holds.shape
    assert relevance_loss(scores, holds).isfinite()


def test_the_loss_is_minus_the_log_of_what_is_right() -> None:
    def share(right: list[float], wrong: list[float]) -> float:
        whole = sum(math.exp(x) for x in [*right, *wrong])
        return sum(math.exp(x) for x in right) / whole

    shares = [
        share([0.3, 2.0], [-1.0, 0.0]),
        share([0.5], [1.0, 0.0]),
        share([0.0], [4.0, -2.0, 0.0]),  # none of them is right
    ]
    expected = -sum(map(math.log, shares)) / 3
    assert float(relevance_loss(SCORES, HOLDS)) == pytest.approx(expected, rel=1e-6)


def test_all_scores_learn_and_none_is_infinite() -> None:
    scores = SCORES.clone().requires_grad_()
    relevance_loss(scores, HOLDS).backward()
    assert scores.grad is not None
    assert torch.equal(scores.grad.sign()[0], torch.tensor([-1.0, 1.0, -1.0]))
    assert (scores.grad[2] > 0).all()
    assert scores.grad[1].tolist()[2] == 0
    assert scores.grad.isfinite().all()


EXAMPLES = [
    Example([4, 5], [[6, 7, 8], [9, 10, 11], [12]], [10, 11, 1]),
    Example([4, 9], [[6, 7], [8, 13]], [1]),
]


def test_a_stage_by_the_answer_ranks_by_where_it_stands_and_its_weight_weighs() -> None:
    reader = random_reader(small(live_layers=2, rerank={"after": 1, "keep": 2}))
    scores = reader.read(collate_examples(EXAMPLES).to("cpu")).scores_BN
    holds = torch.tensor([[False, True, False], [False, False, False]])
    losses = losses_of(reader, rerank=2.0, rerank_by="answer", answer=0.0)
    assert losses.keys() == {"rerank"}
    expected = relevance_loss(scores, holds).item()
    assert losses["rerank"].item() == pytest.approx(expected, rel=1e-5)
    itself = losses_of(reader, rerank=2.0, answer=0.0)["rerank"].item()
    assert itself != pytest.approx(expected, rel=1e-2)


def losses_of(reader: Reader, **settings: Any) -> dict[str, torch.Tensor]:
    stage = StageSpec(**{"steps": 1, "mix": {"facts": 1.0}} | settings)
    recipe = Recipe.model_validate(
        {
            "output": "x",
            "reader": {"preset": "tiny-glimmer"},
            "tasks": {"facts": {"kind": "cloze"}},
            "stages": [{"steps": 1, "mix": {"facts": 1.0}}],
        }
    )
    return Objectives(recipe, reader, Auxiliary(reader)).losses(EXAMPLES, stage)
