"""Initial weights, in one place: T5's. What draws its own weights (`draw`) is left to do so.

| parameter | distribution |
|---|---|
| embedding | N(0, 1) |
| query | N(0, 1 / (width * head width)): folds the attention scale that T5 leaves out |
| query, where scores are scaled | N(0, 1 / width) |
| key, value | N(0, 1 / context width) |
| attention out | N(0, 1 / (heads * head width)) |
| feed-forward | N(0, 1 / inputs) |
| head (untied) | N(0, 1 / width) |
| memory projection | N(0, 1 / memory width) |
| rerank weights | 0: passages tie, and keep their order |
| relative bias | N(0, 1 / buckets) |
| norms | 1 |
| biases of products | 0 |
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fidkit.nn.attention import Projections
from fidkit.nn.layers import RMSNorm
from fidkit.nn.positions import RelativeBias
from fidkit.nn.rerank import Reranker


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """Draw all weights of `module` anew, in the order of its submodules.

    A submodule with a method `draw(generator)` has its own idea of its weights, and of those inside it.
    """
    done: set[nn.Module] = set()
    for part in module.modules():
        if part in done:
            continue
        if draw := getattr(part, "draw", None):
            draw(generator)
            done |= set(part.modules())
        elif isinstance(part, Projections):
            _normal(part.query, (part.query.in_features * part.head_width) ** -0.5 / part.scale, generator)
            for linear in (part.key, part.value, part.out):
                _normal(linear, linear.in_features**-0.5, generator)
            done |= {part.query, part.key, part.value, part.out}
        elif isinstance(part, Reranker):
            part.weight.zero_()
        elif isinstance(part, nn.Linear):
            _normal(part, part.in_features**-0.5, generator)
        elif isinstance(part, nn.Embedding):
            _normal(part, 1.0, generator)
        elif isinstance(part, RelativeBias):
            _normal(part, part.weight.shape[0] ** -0.5, generator)
        elif isinstance(part, RMSNorm):
            part.weight.fill_(1.0)


def _normal(module: nn.Module, deviation: float, generator: torch.Generator | None) -> None:
    module.weight.normal_(0.0, deviation, generator=generator)
    if getattr(module, "bias", None) is not None:
        module.bias.zero_()


def orthogonal(rows: int, columns: int, generator: torch.Generator | None) -> Tensor:
    """[rows, columns] with rows (or columns, if they are fewer) of length 1 that stand apart."""
    return nn.init.orthogonal_(torch.empty(rows, columns), generator=generator)
