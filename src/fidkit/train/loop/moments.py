"""Second moments out of an optimiser and into one, by the names of a reader's parameters."""

from __future__ import annotations

import torch

from fidkit import checkpoint
from fidkit.checkpoint.moments import FILE, Moments, check_moments, load_moments
from fidkit.errors import CheckpointError
from fidkit.reader import Reader
from fidkit.train.optimisers import RemembersSecondMoments


def moments_of(optimiser: torch.optim.Optimizer, reader: Reader) -> Moments:
    """Of all parameters of `reader` that were ever updated.

    Where parameters are sharded, every process has to call this; all get the whole.
    """
    assert isinstance(optimiser, RemembersSecondMoments)
    found = {name: optimiser.second_moment(p) for name, p in reader.named_parameters()}
    known = {name: moment for name, moment in found.items() if moment is not None}
    steps = max((steps for _, steps in known.values()), default=0)
    return Moments({name: tensor for name, (tensor, _) in known.items()}, steps)


def carry(optimiser: torch.optim.Optimizer, reader: Reader, start: str) -> list[str]:
    """Let `optimiser` go on from the second moments beside the checkpoint `start` of `reader`.

    Returns:
        Names of trained parameters that have none there; they begin anew.

    Raises:
        CheckpointError: there are none, or they belong to another reader.
    """
    assert isinstance(optimiser, RemembersSecondMoments)
    directory = checkpoint.locate(start)
    moments = load_moments(directory)
    if moments is None:
        raise CheckpointError(
            f"{directory}: no second moments to carry on ({FILE}); start from a reader that was trained with "
            'this fidkit, or set optimiser.moments = "fresh"'
        )
    shapes = {name: p.shape for name, p in reader.named_parameters()}
    check_moments(moments, shapes, str(directory / FILE))
    trained = {name: p for name, p in reader.named_parameters() if p.requires_grad}
    for name, p in trained.items():  # in one order everywhere: processes meet where `p` is sharded
        if name in moments.tensors:
            optimiser.assume(p, moments.tensors[name], moments.steps)
    return [name for name in trained if name not in moments.tensors]
