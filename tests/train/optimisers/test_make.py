"""What a recipe's optimiser is made of."""

import pytest
import torch
from torch import nn

from fidkit.train.optimisers import Adafactor, RemembersSecondMoments, ScaledAdamW
from fidkit.train.optimisers.make import make_optimiser
from fidkit.train.specs import OptimiserSpec
from oracles import batch_of, random_reader, small

KINDS = ["adamw", "adamw-scaled", "hybrid", "adafactor"]
EXAMPLES = [([3, 4], [[5, 6, 7], [8, 9]], [10, 11, 1]), ([7], [[4, 5]], [6, 1])]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns(kind: str) -> None:
    reader, batch = random_reader(small()).train(), batch_of(EXAMPLES)
    optimiser = make_optimiser(OptimiserSpec(kind=kind, rate=0.01), reader, nn.Linear(2, 2))
    assert isinstance(optimiser, RemembersSecondMoments)
    first = float(reader.eval()(batch).loss.detach())
    for _ in range(30):
        reader(batch).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert float(reader(batch).loss.detach()) < first / 2


def test_the_default_is_torchs_adamw_bit_by_bit() -> None:
    ours, theirs = random_reader(small()), random_reader(small())
    spec, head, batch = OptimiserSpec(rate=1e-2), nn.Linear(2, 2), batch_of(EXAMPLES)
    bias = {"decoder.relative_bias.weight", "live_encoder.relative_bias.weight"}
    named = list(theirs.named_parameters())
    decays = [p for name, p in named if p.ndim > 1 and name not in bias]
    spared = [p for name, p in named if p.ndim == 1 or name in bias]
    groups = [{"params": decays, "weight_decay": 0.01}, {"params": spared, "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.98), fused=True)
    for reader, optimiser in ((ours, make_optimiser(spec, ours, head)), (theirs, reference)):
        for _ in range(5):
            reader(batch).loss.backward()
            optimiser.step()
            optimiser.zero_grad()
    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


def test_what_is_frozen_is_left_out() -> None:
    reader = random_reader(small(live_layers=1))
    head = nn.Linear(2, 2)
    optimiser = make_optimiser(OptimiserSpec(kind="hybrid"), reader, head)
    held = {id(p) for group in optimiser.param_groups for p in group["params"]}
    assert held == {id(p) for p in [*reader.parameters(), *head.parameters()] if p.requires_grad} - {
        id(p) for p in reader.memory_encoder.parameters()
    }


def test_settings_arrive() -> None:
    reader, head = random_reader(small()), nn.Linear(2, 2)
    hybrid = make_optimiser(OptimiserSpec(kind="hybrid", decay=0.9), reader, head)
    assert isinstance(hybrid, Adafactor)
    assert {(g["decay"], g["factored"]) for g in hybrid.param_groups} == {(0.9, False)}
    plain = make_optimiser(OptimiserSpec(kind="adafactor"), reader, head)
    assert {(g["decay"], g["factored"]) for g in plain.param_groups} == {(None, True)}
    scaled = make_optimiser(OptimiserSpec(kind="adamw-scaled", weight_decay=0.5), reader, head)
    assert isinstance(scaled, ScaledAdamW)
    assert [g["weight_decay"] for g in scaled.param_groups] == [0.5, 0.0]
    assert scaled.param_groups[0]["betas"] == (0.9, 0.98)
