"""Which part of a reader a parameter belongs to, for rates of their own."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from fidkit.nn.blocks import Embedding
from fidkit.reader import Reader
from fidkit.train.specs import Part

DECODER = ("decoder.", "head.", "reranker.")
"""What reads what the encoder leaves; scores of passages as well."""


def parts_of(reader: Reader, auxiliary: nn.Module) -> dict[Tensor, Part]:
    """The part of each parameter.

    A table of tokens is `embedding`, whoever looks into it. What a family adds to it, such as positions, is
    of the stack that it stands in; so is all else.
    """
    tables = {module.weight for module in reader.modules() if isinstance(module, Embedding)}
    parts: dict[Tensor, Part] = {}
    for name, parameter in reader.named_parameters():
        if parameter in tables:
            parts[parameter] = "embedding"
        else:
            parts[parameter] = "decoder" if name.startswith(DECODER) else "encoder"
    return parts | {parameter: "auxiliary" for parameter in auxiliary.parameters()}


def leave_as_they_are(reader: Reader, auxiliary: nn.Module, rates: Mapping[Part, float]) -> None:
    """Parts with a rate of 0 have no gradient; before anything asks for parameters that are trained."""
    for parameter, part in parts_of(reader, auxiliary).items():
        if not rates.get(part, 1.0):
            parameter.requires_grad_(False)
