"""One Transformer stack, and the family that its layers are of."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from pydantic import Field, field_validator

from fidkit import families
from fidkit.config.strict import Strict
from fidkit.families import Family

FAMILY = "t5-v1.1"
MOST = 1 << 24
"""Far above the sizes of any reader: a number beyond it is an accident or an attack, and takes all RAM."""


class StackConfig(Strict):
    """One Transformer stack (T5's names in brackets).

    Attributes:
        layers: number of layers.
        width: size of the residual stream [d_model].
        heads: query heads.
        head_width: size of one head [d_kv]; heads * head_width need not equal width.
        feed_forward: inner size of the feed-forward layer [d_ff].
        family: how its layers are built, one of `fidkit.families`: `t5-v1.1` (gated GELU feed-forward) or
            `t5` (plain ReLU).
    """

    layers: int = Field(ge=1, le=1000)
    width: int = Field(ge=1, le=MOST)
    heads: int = Field(ge=1, le=MOST)
    head_width: int = Field(ge=1, le=MOST)
    feed_forward: int = Field(ge=1, le=MOST)
    family: str = FAMILY

    @field_validator("family")
    @classmethod
    def _known_family(cls, given: str) -> str:
        return families.family(given).name

    @property
    def blocks(self) -> Family:
        """What the stack's family brings."""
        return families.family(self.family)


def whole_layers(layers: int, given: str | Fraction) -> int:
    """A number of layers that is given as text or as a proportion of all `layers`.

    Raises:
        ValueError: neither, or a proportion that is no whole number of layers; names the nearest that are.
    """
    try:
        share = Fraction(given)
    except (ValueError, ZeroDivisionError):
        raise ValueError(
            f"{given!r} is no number of layers, such as {max(1, layers // 3)}, and no proportion, such as 1/3"
        ) from None
    if isinstance(given, str) and not {"/", "."} & set(given):
        return int(share)
    if not 0 <= share <= 1:
        raise ValueError(f"{given} is no proportion; choose one from 0 to 1")
    count = share * layers
    if count.denominator == 1:
        return int(count)
    below = int(count)
    near = " and ".join(f"{n} ({Fraction(n, layers)})" for n in (below, below + 1))
    raise ValueError(
        f"{given} of {layers} encoder layers is {float(count):g}, no whole number; the nearest are {near}"
    )


def said_family(stack: Any) -> Any:
    """The family that a stack was given; None where it says none."""
    if isinstance(stack, StackConfig):
        return stack.family if "family" in stack.model_fields_set else None
    return stack.get("family") if isinstance(stack, dict) else None


def in_family(stacks: dict[str, Any], of: dict[str, str]) -> dict[str, Any]:
    """Those of the stacks that say no family, each in its own."""
    changed: dict[str, Any] = {}
    for name, family in of.items():
        stack = stacks.get(name)
        if isinstance(stack, StackConfig) and said_family(stack) is None:
            changed[name] = stack.model_copy(update={"family": family})
        elif isinstance(stack, dict) and "family" not in stack:
            changed[name] = stack | {"family": family}
    return changed


def without_family(stack: dict[str, Any] | None) -> dict[str, Any] | None:
    """The fields of a stack without its family."""
    return stack and {name: value for name, value in stack.items() if name != "family"}
