"""Parts of a reader have rates of their own, whatever the optimiser."""

import pytest
import torch

from fidkit.train.losses.auxiliary import Auxiliary
from fidkit.train.optimisers.make import make_optimiser, set_rate
from fidkit.train.optimisers.parts import leave_as_they_are, parts_of
from fidkit.train.specs import OptimiserSpec
from oracles import batch_of, random_reader, small, stack
from train.optimisers.test_make import EXAMPLES, KINDS

SHAPES = {
    "fid": small(),
    "apart": small(shared_embedding=False, decoder=stack(2, width=24)),
    "lumen": small(live_layers=1, memory_encoder=stack(1, width=8), frozen=()),
    "glimmer": small(rerank={"after": 1, "keep": 1}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_parameter_is_of_the_part_that_its_name_says(shape: str) -> None:
    reader = random_reader(SHAPES[shape])
    parts = parts_of(reader, auxiliary := Auxiliary(reader))
    for name, p in reader.named_parameters():
        table = name.endswith("embedding.weight")
        expected = "decoder" if name.split(".")[0] in ("decoder", "head", "reranker") else "encoder"
        assert parts[p] == ("embedding" if table else expected), name
    assert {parts[p] for p in auxiliary.parameters()} == {"auxiliary"}
    assert len(parts) == len([*reader.parameters(), *auxiliary.parameters()])
    assert parts[reader.embedding.weight] == parts[reader.decoder.embedding.weight] == "embedding"


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_as_large_as_the_rate_of_its_part(kind: str) -> None:
    def moves(rates: dict[str, float]) -> dict[str, torch.Tensor]:
        reader = random_reader(small())
        before = {name: p.clone() for name, p in reader.named_parameters()}
        spec = OptimiserSpec(kind=kind, rates=rates)
        auxiliary = Auxiliary(reader)
        leave_as_they_are(reader, auxiliary, spec.rates)
        optimiser = make_optimiser(spec, reader, auxiliary)
        set_rate(optimiser, 0.01)
        reader(batch_of(EXAMPLES)).loss.backward()
        optimiser.step()
        return {name: p.detach() - before[name] for name, p in reader.named_parameters()}

    even, uneven = moves({}), moves({"embedding": 0.0, "encoder": 0.5, "decoder": 2.0})
    for name, move in even.items():
        factor = 2.0 if name.startswith(("decoder.", "head.")) else 0.5
        factor = 0.0 if name == "embedding.weight" else factor
        assert move.abs().max() > 0
        torch.testing.assert_close(uneven[name], factor * move, rtol=1e-3, atol=1e-6)


def test_a_part_without_a_rate_has_no_gradient_and_is_nowhere_in_the_optimiser() -> None:
    reader = random_reader(small())
    auxiliary = Auxiliary(reader)
    leave_as_they_are(reader, auxiliary, {"embedding": 0.0, "auxiliary": 0.0})
    optimiser = make_optimiser(OptimiserSpec(), reader, auxiliary)
    reader(batch_of(EXAMPLES)).loss.backward()
    assert reader.embedding.weight.grad is None
    held = {id(p) for group in optimiser.param_groups for p in group["params"]}
    assert held == {id(p) for p in reader.parameters()} - {id(reader.embedding.weight)}
