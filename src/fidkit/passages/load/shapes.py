"""Shapes of a slide, in the order that people read them in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxml import etree


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape and where it lies: left, top and height in the units of its slide."""

    node: etree._Element
    left: int
    top: int
    height: int
    role: str  # what a placeholder is for; empty for other shapes


def in_reading_order(shapes: list[Shape]) -> list[Shape]:
    """From top to bottom; what begins beside the upper half of another shape stands in one row with it."""
    ordered: list[Shape] = []
    row: list[Shape] = []
    for shape in sorted(shapes, key=lambda shape: shape.top):
        if row and shape.top > row[0].top + row[0].height // 2:
            ordered += sorted(row, key=lambda shape: shape.left)
            row = []
        row.append(shape)
    return ordered + sorted(row, key=lambda shape: shape.left)
