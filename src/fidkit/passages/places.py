"""Where characters of a document came from, as a person would say it and as a page can be marked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fidkit.passages.load.document import Box, Place

# Those with numbers can be said as a range.
_COUNTED = ("page", "slide", "row", "cell")
_SAID = ("page", "slide", "sheet", "row", "part", "cell")
"""In front of offsets; chapter and heading stand in the title already."""
_TOLD = re.compile(rf"(?P<name>.+?)(, (?:{'|'.join(_SAID)})s? [^,]+)*, (?P<span>\d+-\d+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Where:
    """Where some characters of a document came from.

    Attributes:
        start, end: the characters.
        places: that hold some of them, in the order of the text.
        boxes: on pages, one a line.
    """

    start: int = 0
    end: int = 0
    places: tuple[Place, ...] = ()
    boxes: tuple[Box, ...] = ()

    def labels(self) -> dict[str, str]:
        """A label for each kind of place, such as `{"page": "3", "heading": "Deposit"}`.

        Of places in one another the innermost counts. Pages, slides and rows may be several: `3-4`.
        """
        found: dict[str, str] = {}
        for kind in dict.fromkeys(place.kind for place in self.places):
            places = [place for place in self.places if place.kind == kind]
            first = _innermost(places, self.start)
            last = _innermost(places, self.end - 1) if kind in _COUNTED else first
            found[kind] = first.label if first.label == last.label else f"{first.label}-{last.label}"
        return found


def _innermost(places: Sequence[Place], character: int) -> Place:
    """The shortest that holds a character; where none does, the nearest."""
    holding = [place for place in places if place.start <= character < place.end]
    if holding:
        return min(holding, key=lambda place: place.end - place.start)
    return min(places, key=lambda place: min(abs(place.start - character), abs(place.end - character)))


def spoken(labels: dict[str, str]) -> list[str]:
    """Places for a person: `page 3`, `rows 4-6`, `sheet Sales`."""
    return [f"{kind}{_plural(kind, labels[kind])} {labels[kind]}" for kind in _SAID if kind in labels]


def _plural(kind: str, label: str) -> str:
    return "s" if kind in _COUNTED and "-" in label else ""


def typed(source: str) -> str:
    """A place as people are told of it, `lease.pdf, page 3, 120-734`, as `split` takes it; else as it is."""
    told = _TOLD.fullmatch(source)
    return f"{told['name']}:{told['span']}" if told else source


def split(source: str) -> tuple[str, tuple[int, int] | None]:
    """The name of a document, and the characters behind it: `notes.md:120-734`; None where there are none."""
    name, colon, span = source.rpartition(":")
    start, dash, end = span.partition("-")
    digits = all(part.isascii() and part.isdecimal() and len(part) < 19 for part in (start, end))
    if colon and dash and digits:
        return name, (int(start), int(end))
    return source, None
