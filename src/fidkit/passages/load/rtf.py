"""Rich text (RTF). striprtf decodes it; what it would leave out is taken out before."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

from fidkit.passages.load.document import Document, Writer
from fidkit.passages.load.grid import write_table
from fidkit.passages.load.package import MB, TooLarge, reading
from fidkit.passages.load.prose import Sections, flat, sound, titled
from fidkit.passages.load.record import UnreadableFile

_WHAT = "rich text (RTF)"
_LARGEST = 50 * MB
"""Without its pictures."""

# Characters for private use, which mark in the decoded text what isn't text.
_HEADING, _ITEM, _TABLE, _CELL, _ROW, _ANEW = "\ue000", "\ue009", "\ue00a", "\ue00b", "\ue00c", "\ue00d"
_OURS = re.compile("[\ue000-\ue00d]")
_OUTLINE = re.compile(r"\\outlinelevel([0-8])(?![0-9])")
_STYLE = re.compile(r"\{\\s([0-9]{1,5})")
_NAMED = re.compile(r" (?:Title|heading ([1-9]));", re.IGNORECASE)
_LISTED = re.compile(r"(?:[•◦▪·-]|[0-9]{1,4}[.)])\t")
_BINARY = re.compile(rb"\\bin([0-9]{1,9}) ?")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{64,}[\r\n]*){2,}")
_PAGE = re.compile(r"\\ansicpg([0-9]{1,5})")
_BRACE = re.compile(r"\\[\\{}]|[{}]")
_LIFTED = re.compile(r"\{(?:\\\*)?\\(footnote|header[lrf]?|footer[lrf]?)(?![a-z])")
_DELETED = re.compile(r"(?<!\\)\\(?:deleted|mvf)1?(?![a-z0-9]) ?")
_UNDELETED = re.compile(r"\\[\\{}]|[{}]|\\(?:plain|deleted0|mvf0)(?![a-z0-9])")
_TIME = re.compile(
    r"\{\\(revtim|creatim)\\yr([0-9]{4})\\mo([0-9]{1,2})\\dy([0-9]{1,2})(?:\\hr([0-9]{1,2})\\min([0-9]{1,2}))?"
)


def read_rtf(stream: BinaryIO, name: str) -> Iterator[Document]:
    """A text in RTF: headings by their outline level, items, rows of tables, footnotes at the end.

    Args:
        stream: the whole file.
        name: of the file.

    Raises:
        UnreadableFile: it isn't one, or is broken or too long.
    """
    with reading(name, _WHAT):
        data = stream.read()
        if not data.lstrip()[:5].lower() == b"{\\rtf":
            raise UnreadableFile(
                name, f"expected {_WHAT}, got a file of another kind", "give it the right ending"
            )
        document = _document(data)
    yield document


def _document(data: bytes) -> Document:
    text = _encoded(data)
    head = _PAGE.search(text[:1000])
    prolog = "{\\rtf1\\ansi" + (head[0] if head else "") + _group(text, text.find("{\\fonttbl"))
    text, deleted = _undeleted(text)
    text, lifted = _lift(text)
    writer = Writer()
    sections = Sections(writer)
    for kind, group in lifted:
        if kind.startswith("header"):
            writer.block(_plain(prolog + group + "}"), "repeated")
    _write(writer, sections, _decoded(_marked(text, _levels(text))))
    sections.end()
    notes = [group for kind, group in lifted if kind == "footnote"]
    for number, group in enumerate(notes, start=1):
        writer.block(f"[{number}] {flat(_plain(prolog + group + '}'))}")
    for kind, group in lifted:
        if kind.startswith("footer"):
            writer.block(_plain(prolog + group + "}"), "repeated")
    title, facts = _facts(text, prolog)
    notes_of_it = ("text that was deleted while changes were tracked is left out",) if deleted else ()
    return titled(writer.document(title, facts=facts, notes=notes_of_it))


def _encoded(data: bytes) -> str:
    """The code as a string, without pictures."""
    parts, at = [], 0
    while match := _BINARY.search(data, at):
        parts.append(data[at : match.start()])
        at = match.end() + int(match[1])
    data = _HEX.sub(b"", b"".join([*parts, data[at:]]))
    if len(data) > _LARGEST:
        raise TooLarge(f"it has more than {_LARGEST // MB} MB of text")
    page = re.search(rb"\\ansicpg([0-9]{1,5})", data[:1000])
    try:
        text = data.decode(f"cp{page[1].decode()}" if page else "cp1252", "replace")
    except LookupError:
        text = data.decode("cp1252", "replace")
    # Two of the library's patterns take time with the square of a line's length: they are kept from
    # matching across fields and fonts. To RTF, neither the space nor the line ends mean anything.
    text = _OURS.sub(" ", text).replace("\\fldinst{", "\\fldinst {")
    return re.sub(r"(?<!\\)\\f(?=[0-9])", r"\n\\f", text)


def _group(text: str, start: int) -> str:
    """The group that begins here, its braces included; all that follows where it doesn't end."""
    depth = 0
    for brace in _BRACE.finditer(text, start) if start >= 0 else ():
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if not depth and brace[0] == "}":
            return text[start : brace.end()]
    return text[start:] + "}" * depth if start >= 0 else ""


def _undeleted(text: str) -> tuple[str, bool]:
    """The text without what was deleted or moved away while changes were tracked, and whether there was any.

    The word says so of what follows it, until its group ends or another word takes it back.
    """
    parts, at = [], 0
    while match := _DELETED.search(text, at):
        parts.append(text[at : match.start()])
        at = _end_of_deleted(text, match.end())
    return "".join([*parts, text[at:]]), bool(parts)


def _end_of_deleted(text: str, start: int) -> int:
    depth = 0
    for found in _UNDELETED.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        # A word inside of an inner group holds for that group alone.
        if depth < 0 or (not depth and found[0][1:2].isalpha()):
            return found.start()
    return len(text)


def _lift(text: str) -> tuple[str, list[tuple[str, str]]]:
    """The text without footnotes, headers and footers of pages, and these, with what they are, in order."""
    parts, found, at, notes = [], list[tuple[str, str]](), 0, 0
    while match := _LIFTED.search(text, at):
        group = _group(text, match.start())
        parts.append(text[at : match.start()])
        at = match.start() + len(group)
        if match[1] == "footnote":
            notes += 1
            parts.append(f"{{[{notes}]}}")
        if (match[1], "{" + group[match.end() - match.start() :]) not in found[
            -6:
        ]:  # pages of all kinds have the same
            found.append((match[1], "{" + group[match.end() - match.start() :]))
    return "".join([*parts, text[at:]]), found


def _marked(text: str, levels: dict[str, int]) -> str:
    """With marks of our own where headings, items and cells are."""

    def heading(match: re.Match[str]) -> str:
        level = int(match[1]) if match[1] else levels.get(match[2])
        return match[0] if level is None else f"{match[0]}{{}}{chr(ord(_HEADING) + level)}"

    text = re.sub(r"(?<!\\)\\(?:outlinelevel([0-8])|s([0-9]{1,5}))(?![0-9]) ?", heading, text)
    for word, mark in (
        ("listtext", _ITEM),
        ("intbl", _TABLE),
        ("nestcell", "; "),  # a table in a cell is text of that cell
        ("cell", _CELL),
        ("row", _ROW),
        ("pard", _ANEW),
    ):
        put = f"{{}}{mark}" + (r"\\par " if mark == _ROW else "")
        text = re.sub(rf"(?<!\\)\\({word})(?![a-z0-9]) ?", put, text)
    return text


def _levels(text: str) -> dict[str, int]:
    """Styles of headings, by their numbers: their levels, counted from 0."""
    sheet = _group(text, text.find("{\\stylesheet"))
    found = {}
    for entry in re.findall(r"\{\\s[0-9][^{}]*", sheet):
        number, level, named = _STYLE.match(entry), _OUTLINE.search(entry), _NAMED.search(entry)
        if number and level:
            found[number[1]] = int(level[1])
        elif number and named:
            found[number[1]] = int(named[1] or 1) - 1
    return found


def _decoded(text: str) -> str:
    from striprtf.striprtf import rtf_to_text

    decode: Callable[..., str] = rtf_to_text
    return sound(decode(text, errors="replace"))


def _plain(text: str) -> str:
    return _decoded(text).strip()


def _write(writer: Writer, sections: Sections, text: str) -> None:
    rows: list[list[str]] = []
    cells: list[str] = []
    for line in text.split("\n"):
        # A paragraph is in a table as the one before, unless it begins anew. The sign of an item always does.
        within = bool(cells) and _ANEW not in line.partition(_ITEM)[0]
        if within or any(mark in line for mark in (_TABLE, _CELL, _ROW)):
            # A cell may have several paragraphs: each ends a line, and the mark follows the last one.
            ended = not _OURS.sub("", line.rpartition(_CELL)[2]).strip()
            cells.append(line.replace(_CELL, f"{_CELL} ") + ("" if ended else "; "))
            if _ROW in line:
                rows.append(_cells("".join(cells).partition(_ROW)[0]))
                cells = []
        elif _OURS.sub("", line).strip():
            if cells:  # of a row that has no end
                rows.append(_cells("".join([*cells, _CELL])))
                cells = []
            write_table(writer, rows)
            rows = []
            _paragraph(writer, sections, line)
    if cells:
        rows.append(_cells("".join(cells) + _CELL))
    write_table(writer, rows)


def _cells(row: str) -> list[str]:
    *cells, _ = row.split(_CELL)
    return [flat(_OURS.sub("", cell)).strip("; ") for cell in cells]


def _paragraph(writer: Writer, sections: Sections, line: str) -> None:
    plain = _OURS.sub("", line)
    level = next((ord(mark) - ord(_HEADING) + 1 for mark in line if _HEADING <= mark < _ITEM), 0)
    if level:
        sections.heading(plain, level)
    elif _ITEM in line or _LISTED.match(plain):
        writer.block(flat(plain), "item")
    else:
        writer.block(plain.strip())


def _facts(text: str, prolog: str) -> tuple[str, dict[str, str]]:
    """What the group `info` says."""
    info = _group(text, text.find("{\\info"))[:100_000]
    said = {}
    for key in ("title", "author"):
        at = info.find(f"{{\\{key} ")
        said[key] = flat(_plain(f"{prolog}{{{_group(info, at)[len(key) + 2 :]}}}")) if at >= 0 else ""
    times = {match[1]: match for match in _TIME.finditer(info)}
    if time := times.get("revtim") or times.get("creatim"):
        year, month, day, hour, minute = (int(part or 0) for part in time.groups()[1:])
        said["date"] = f"{year:04}-{month:02}-{day:02}" + (f"T{hour:02}:{minute:02}" if time[5] else "")
    return said.pop("title"), {key: value for key, value in said.items() if value}
