"""A document as a corpus keeps it: its text compressed, and what says where its characters came from.

Blocks, places and boxes are columns of small numbers, each the difference to the one before, of as few bytes
as they need, and then compressed: about three bytes a box, where the box itself would take fifty.
Boxes are kept to a tenth of a point.

Whatever is unpacked may be from a stranger's corpus: nothing is made that is larger than a document may be.
"""

from __future__ import annotations

import json
import sys
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from operator import sub
from typing import Any, get_args

from fidkit.passages.load.document import Block, BlockKind, Box, Document, Place, PlaceKind
from fidkit.passages.load.record import UnreadableFile

MOST_BYTES = 512 * 1024 * 1024
"""Of anything here once it is unpacked."""

_BLOCK_KINDS: tuple[BlockKind, ...] = get_args(BlockKind)
_PLACE_KINDS: tuple[PlaceKind, ...] = get_args(PlaceKind)
_WIDTHS = "bhiq"
_TENTHS = 10
_FARTHEST = 10_000_000  # tenths of a point: beyond any page, and within four bytes
# Most of the time that packing takes is spent here; 9 is a third slower and saves a hundredth.
_LEVEL = 6


EMPTY = "empty"
"""The note of a document that has no text and says nothing else of itself."""
REPEATED = "its pages repeat all of its text, as they do headers and footers, so none of it is searched"
"""The note of a document of nothing but what pages repeat."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A document to be stored.

    Attributes:
        member, title, facts, notes: as of `Document`.
        map: its blocks and places.
        boxes: its boxes; empty where it has none.
        text: its text.
    """

    member: str
    title: str
    facts: dict[str, str]
    notes: tuple[str, ...]
    map: bytes
    boxes: bytes
    text: bytes


def pack(document: Document, name: str) -> Packed:
    """Pack a document of the file `name`.

    Raises:
        UnreadableFile: it contradicts itself, which is a fault of its loader: says in what.
    """
    try:
        _check(document)
    except (ValueError, TypeError, AttributeError) as error:
        raise UnreadableFile(name, f"its loader contradicts itself: {error}", "report it") from error
    notes = tuple(document.notes) or _of_nothing(document)
    return Packed(
        document.member, document.title, dict(document.facts), notes,
        _packed_map(document), _packed_boxes(document.boxes), packed_text(document.text),
    )  # fmt: skip


def packed_text(text: str) -> bytes:
    """A text, compressed. A half of a character becomes a question mark, so that all others stay in place."""
    return zlib.compress(text.encode("utf-8", "replace"), _LEVEL)


def text_of(packed: bytes) -> str:
    """The text again.

    Raises:
        ValueError: it is damaged.
    """
    return _unpacked(packed).decode("utf-8")


def blocks_of(packed: bytes) -> tuple[Block, ...]:
    """The blocks of a packed map.

    Raises:
        ValueError: it is damaged.
    """
    (bounds, kinds, levels, *_), _ = _columns(packed)
    at = list(accumulate(bounds))
    return tuple(
        Block(start, end, _of(_BLOCK_KINDS, kind), level)
        for start, end, kind, level in zip(at[::2], at[1::2], kinds, levels, strict=True)
    )


def places_in(packed: bytes, start: int, end: int) -> tuple[Place, ...]:
    """The places of a packed map that share a character with a span, in their order.

    Raises:
        ValueError: it is damaged.
    """
    (_, _, _, starts, lengths, kinds), labels = _columns(packed)
    return tuple(
        Place(first, first + length, _of(_PLACE_KINDS, kind), str(label))
        for first, length, kind, label in zip(accumulate(starts), lengths, kinds, labels, strict=True)
        if first < end and start < first + length
    )


def boxes_in(packed: bytes, start: int, end: int) -> tuple[Box, ...]:
    """The boxes that share a character with a span, in their order.

    Raises:
        ValueError: they are damaged.
    """
    if not packed:
        return ()
    (bounds, pages, sides, tops, heights), _ = _columns(packed)
    at, across = list(accumulate(bounds)), list(accumulate(sides))
    page, top = list(accumulate(pages)), list(accumulate(tops))
    begins = at[::2]
    found = []
    for n in range(min(bisect_left(begins, end), len(page))):
        if start < at[2 * n + 1]:
            left, right = across[2 * n], across[2 * n + 1]
            edges = (left, top[n], right, top[n] + heights[n])
            found.append(Box(at[2 * n], at[2 * n + 1], page[n], *(edge / _TENTHS for edge in edges)))
    return tuple(found)


def _check(document: Document) -> None:
    """Raise ValueError for a map that doesn't fit its text."""
    length, behind = len(document.text), 0
    for block in document.blocks:
        if not behind <= block.start < block.end <= length:
            raise ValueError(f"{block} overlaps the one before, is empty or lies outside {length} characters")
        behind = block.end
    parts: tuple[Sequence[Place | Box], ...] = (document.places, document.boxes)
    for some in parts:
        behind = 0
        for part in some:
            if not behind <= part.start < part.end <= length:
                raise ValueError(f"{part} is empty, out of order, or lies outside {length} characters")
            behind = part.start


def _of_nothing(document: Document) -> tuple[str, ...]:
    """What has to be said of a document that gives no passages and says nothing else of itself."""
    if not document.text.lstrip("\ufeff").strip():  # the mark of an encoding is no text
        return (EMPTY,)
    searched = not document.blocks or any(block.kind != "repeated" for block in document.blocks)
    return () if searched else (REPEATED,)


def _packed_map(document: Document) -> bytes:
    blocks, places = document.blocks, document.places
    columns = (
        _differences(chain.from_iterable((b.start, b.end) for b in blocks)),
        [_BLOCK_KINDS.index(b.kind) for b in blocks],
        [b.level for b in blocks],
        _differences(p.start for p in places),
        [p.end - p.start for p in places],
        [_PLACE_KINDS.index(p.kind) for p in places],
    )
    return _packed(columns, [place.label for place in places])


def _packed_boxes(boxes: Sequence[Box]) -> bytes:
    if not boxes:
        return b""
    tops = [_tenths(box.top) for box in boxes]
    return _packed(
        (
            _differences(chain.from_iterable((b.start, b.end) for b in boxes)),
            _differences(b.page for b in boxes),
            _differences(chain.from_iterable((_tenths(b.left), _tenths(b.right)) for b in boxes)),
            _differences(tops),
            [_tenths(box.bottom) - top for box, top in zip(boxes, tops, strict=True)],
        ),
        [],
    )


def _tenths(points: float) -> int:
    return round(max(-_FARTHEST, min(_FARTHEST, _TENTHS * points)))


def _differences(numbers: Iterable[int]) -> list[int]:
    """Each number less the one before; `accumulate` is the way back."""
    values = list(numbers)
    return list(map(sub, values, [0, *values[:-1]]))


def _packed(columns: Sequence[list[int]], labels: list[str]) -> bytes:
    arrays = [_narrowest(column) for column in columns]
    header = json.dumps([[[column.typecode, len(column)] for column in arrays], labels])
    return zlib.compress(b"".join([header.encode(), b"\n", *map(_bytes, arrays)]), _LEVEL)


def _columns(packed: bytes) -> tuple[list[array[int]], list[Any]]:
    head, _, body = _unpacked(packed).partition(b"\n")
    try:
        layout, labels = json.loads(head)
        columns, at = [], 0
        for code, count in layout:
            column = array(code if code in _WIDTHS else "b")
            size = count * column.itemsize
            column.frombytes(body[at : at + size])
            if len(column) != count:
                raise ValueError("columns are cut off")
            if sys.byteorder == "big":
                column.byteswap()
            columns.append(column)
            at += size
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return columns, labels


def _narrowest(column: list[int]) -> array[int]:
    for code in _WIDTHS[:-1]:
        try:
            return array(code, column)
        except OverflowError:
            continue
    return array(_WIDTHS[-1], column)


def _bytes(column: array[int]) -> bytes:
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()


def _of(kinds: Sequence[Any], number: int) -> Any:
    if not 0 <= number < len(kinds):
        raise ValueError(f"kind {number} is none of {len(kinds)}")
    return kinds[number]


def _unpacked(packed: bytes) -> bytes:
    try:
        unpacker = zlib.decompressobj()
        found = unpacker.decompress(packed, MOST_BYTES)
        if not unpacker.eof:
            raise ValueError("it is cut off, or larger than a document may be")
        return found
    except (zlib.error, TypeError) as error:
        raise ValueError(str(error)) from error


def joined_in_lines(boxes: Iterable[Box]) -> Iterator[Box]:
    """Boxes with those of one line made one, for marking."""
    line: Box | None = None
    for box in boxes:
        if line and _goes_on(line, box):
            line = Box(
                line.start, box.end, line.page, line.left, min(line.top, box.top),
                max(line.right, box.right), max(line.bottom, box.bottom),
            )  # fmt: skip
            continue
        if line:
            yield line
        line = box
    if line:
        yield line


def _goes_on(line: Box, box: Box) -> bool:
    """Whether a box stands behind others on their line: at half of its height at least, and not far off."""
    height = box.bottom - box.top
    shared = min(line.bottom, box.bottom) - max(line.top, box.top)
    near = line.left <= box.left <= line.right + 2 * height
    return line.page == box.page and near and 2 * shared >= height
