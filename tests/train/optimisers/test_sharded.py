"""Optimisers on parameters that two processes share, as with FSDP: the same steps as in one process."""

import pytest
import torch

from launched import group
from train.optimisers import sharded


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    path = tmp_path_factory.mktemp("sharded") / "found.pt"
    group(2, sharded.main, str(path), says=path.with_name("said"))
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("layout", ["shards", "replicas"])
@pytest.mark.parametrize("kind", ["hybrid", "adamw-scaled", "adamw"])
def test_the_steps_of_one_process(kind: str, layout: str, found: dict) -> None:
    alone = sharded.train(kind, lambda t: t)
    torch.testing.assert_close(found[f"{kind}, {layout}"], alone, rtol=1e-6, atol=1e-7)


def test_factors_are_refused(found: dict) -> None:
    assert 'take optimiser.kind = "hybrid"' in found["adafactor, shards"]
