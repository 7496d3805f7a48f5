"""Modules without weights: names and shapes alone, to be given their tensors afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_DRAWS = {"normal_", "uniform_", "kaiming_uniform_", "fill_", "zero_", "copy_"}


class _NothingDrawn(TorchFunctionMode):
    """Leaves alone what would be filled."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if getattr(func, "__name__", "") in _DRAWS:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


@contextmanager
def undrawn() -> Iterator[None]:
    """Modules that are made inside have parameters on `meta`, and nothing is drawn for them.

    Drawing on `meta` gives nothing, but goes through torch's compiler, whose import takes a second.
    """
    with torch.device("meta"), _NothingDrawn():
        yield
