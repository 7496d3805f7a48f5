"""Notebooks of Jupyter (IPYNB): a place a cell, with its text, its code and what that printed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from fidkit.passages.load.document import Document, Writer
from fidkit.passages.load.package import reading
from fidkit.passages.load.prose import Sections, flat, sound, titled

_WHAT = "a notebook of Jupyter"
OUTPUT_CHARACTERS = 10_000
"""Of what a cell printed; more is left out, which `notes` says."""

_ANSI = re.compile("\x1b\\[[0-9;?]*[A-Za-z]")
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*")
_ITEM = re.compile(r"\s*(?:[-*+]|\d{1,9}[.)])\s+\S.*")
_FENCE = re.compile(r" {0,3}(```+|~~~+)")


def read_notebook(stream: BinaryIO, name: str) -> Iterator[Document]:
    """A notebook. Places: `cell`, labelled by number, and headings of its Markdown.

    Args:
        stream: the whole file.
        name: of the file.

    Raises:
        UnreadableFile: it isn't one.
    """
    with reading(name, _WHAT):
        document = _document(json.loads(stream.read().decode("utf-8-sig")))
    yield document


def _document(notebook: Any) -> Document:
    cells = _cells(notebook)
    writer, notes = Writer(), list[str]()
    for number, cell in enumerate(cells, start=1):
        writer.begin("cell", str(number))
        source = sound(_joined(cell.get("source", cell.get("input", ""))))
        if cell.get("cell_type") == "code":
            writer.block(source.strip("\n"), "code")
            output = sound(_ANSI.sub("", "\n".join(_outputs(cell)))).strip("\n")
            if len(output) > OUTPUT_CHARACTERS:
                notes.append(
                    f"cell {number} printed {len(output)} characters; the first {OUTPUT_CHARACTERS} are read"
                )
            writer.block(output[:OUTPUT_CHARACTERS], "code")
        elif cell.get("cell_type") == "heading":  # of the third version of the format
            writer.block(flat(source), "heading", int(cell.get("level", 1)))
        else:
            _markdown(writer, source)
        writer.end()
    metadata = notebook.get("metadata")
    title = metadata.get("title", "") if isinstance(metadata, dict) else ""
    return titled(writer.document(sound(title) if isinstance(title, str) else "", notes=tuple(notes)))


def _cells(notebook: Any) -> list[dict[str, Any]]:
    """The cells of a notebook, those of its worksheets in the third version of the format."""
    if not isinstance(notebook, dict):
        raise ValueError(f"it holds no object but a {type(notebook).__name__}")
    sheets = notebook.get("worksheets")
    lists: list[Any] = (
        [notebook.get("cells")] if "cells" in notebook else [sheet.get("cells") for sheet in sheets or ()]
    )
    if not lists or not all(isinstance(cells, list) for cells in lists):
        raise ValueError("it has no cells")
    return [cell for cells in lists for cell in cells if isinstance(cell, dict)]


def _joined(text: Any) -> str:
    """A text, or a list of its lines, which have their ends."""
    return text if isinstance(text, str) else "".join(map(str, text)) if isinstance(text, list) else ""


def _outputs(cell: dict[str, Any]) -> Iterator[str]:
    """What a cell printed or returned, as plain text; pictures and pages have none."""
    outputs = cell.get("outputs")
    for output in outputs if isinstance(outputs, list) else ():
        if not isinstance(output, dict):
            continue
        data = output.get("data")
        plain = data.get("text/plain") if isinstance(data, dict) else output.get("text")
        if output.get("output_type") in ("error", "pyerr"):
            yield f"{_joined(output.get('ename'))}: {_joined(output.get('evalue'))}"
        elif text := _joined(plain):
            yield text.strip("\n")


def _markdown(writer: Writer, source: str) -> None:
    """Headings, items, code between fences, and paragraphs."""
    lines: list[str] = []
    fence = ""
    sections = Sections(writer)

    def done() -> None:
        writer.block(
            "\n".join(lines),
            "code" if fence else "item" if lines and _ITEM.fullmatch(lines[0]) else "paragraph",
        )
        lines.clear()

    for line in source.splitlines():
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence):
                done()
                fence = ""
            else:
                lines.append(line)
        elif mark:
            done()
            fence = mark[1]
        elif heading := _HEADING.fullmatch(line):
            done()
            sections.heading(heading[2], len(heading[1]))
        else:
            if not line.strip() or _ITEM.fullmatch(line):
                done()
            if line.strip():
                lines.append(line)
    done()
    sections.end()
