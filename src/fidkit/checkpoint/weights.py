"""Tensors by name as the parameters of a reader: all of them, in their shapes, and finite."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from fidkit.checkpoint.shapes import compare, refuse_broken
from fidkit.errors import CheckpointError

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""What weights may be read from."""


def assign(
    reader: nn.Module,
    tensors: Mapping[str, Tensor],
    where: str,
    dtype: torch.dtype | None = torch.float32,
    *,
    alone: Callable[[str], Tensor] | None = None,
) -> None:
    """Give every parameter of `reader` (which may be on `meta`) its tensor; one of that type isn't copied.

    Others are converted one after the other, so that not all of them are in memory in both types.

    Args:
        reader: a module whose parameters have these names; of no use after an error.
        tensors: by name.
        where: they are from, for messages.
        dtype: of the parameters; None keeps the tensors' type, where all are float32 or all bfloat16.
        alone: gives one of `tensors` such that its memory goes with it, for those that are converted.

    Raises:
        CheckpointError: lists what is missing, superfluous or of another shape, or not a finite number.
    """
    parameters = _check(reader, tensors, where)
    kinds = {tensor.dtype for tensor in tensors.values()}
    if dtype is None:
        dtype = kinds.pop() if kinds in ({torch.float32}, {torch.bfloat16}) else torch.float32
    # Modules are shared where parameters are tied, so assigning module by module keeps the ties.
    names = {id(p): name for name, p in parameters.items()}
    broken = []
    for module in reader.modules():
        for leaf, parameter in list(module.named_parameters(recurse=False)):
            name = names[id(parameter)]
            tensor = tensors[name]
            if alone is not None and tensor.dtype != dtype:
                tensor = alone(name)
            if not is_finite(tensor):
                broken.append(name)
            converted = nn.Parameter(tensor.to(dtype), requires_grad=parameter.requires_grad)
            setattr(module, leaf, converted)
    refuse_broken(broken, where)


@torch.no_grad()
def assign_in_place(reader: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """`assign` that keeps the parameter objects, for a reader that an optimiser already knows."""
    for name, parameter in _check(reader, tensors, where).items():
        parameter.copy_(tensors[name])


def _check(reader: nn.Module, tensors: Mapping[str, Tensor], where: str) -> dict[str, nn.Parameter]:
    parameters = dict(reader.named_parameters())
    shapes = {name: p.shape for name, p in parameters.items()}
    compare(shapes, tensors, where, "save or convert the reader again")
    require_floats(tensors, where)
    return parameters


def require_floats(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights that are no numbers of their own, such as int8 whose scales are elsewhere.

    Raises:
        CheckpointError: names one and its type.
    """
    for name, tensor in sorted(tensors.items()):
        if tensor.dtype not in FLOATS:
            kind, known = _said(tensor.dtype), ", ".join(map(_said, FLOATS))
            raise CheckpointError(
                f"{where}: {name} is stored as {kind}; expected {known}; quantised weights mean nothing "
                "without the code that made them: take the checkpoint that they were made from"
            )


def _said(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def require_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """One such weight makes every answer nonsense, without an error anywhere.

    Raises:
        CheckpointError: names the tensors.
    """
    refuse_broken([name for name, tensor in tensors.items() if not is_finite(tensor)], where)


def is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are: the smallest and the largest are, which takes no memory to find out."""
    if not tensor.numel():
        return True
    return all(bool(torch.isfinite(extreme)) for extreme in torch.aminmax(tensor))
