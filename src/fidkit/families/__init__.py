"""Families of blocks: the kinds of Transformer layers that a stack can be made of.

A family is two files: a record here (what configurations, costs and the choice of kernels ask, without torch)
and modules in `fidkit.nn.families`. docs/architecture.md says how to add one.
"""

from __future__ import annotations

from fidkit.families.bert import BERT
from fidkit.families.mpnet import MPNET
from fidkit.families.record import Family, Kernels, Matrix
from fidkit.families.t5 import T5, T5_V1_1
from fidkit.families.umt5 import UMT5

FAMILIES: dict[str, Family] = {family.name: family for family in (T5, T5_V1_1, UMT5, BERT, MPNET)}


def family(name: str) -> Family:
    """The family called `name`.

    Raises:
        ValueError: no such family; names those that there are.
    """
    if name not in FAMILIES:
        raise ValueError(f"{name!r} is no family of blocks; choose one of {', '.join(FAMILIES)}")
    return FAMILIES[name]


__all__ = ["FAMILIES", "Family", "Kernels", "Matrix", "family"]
