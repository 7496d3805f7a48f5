"""Source code and files of settings, as documents."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import PurePath
from typing import BinaryIO

from fidkit.passages.load.charset import decode
from fidkit.passages.load.document import Document
from fidkit.passages.load.outline import Outline, lines_of
from fidkit.passages.load.record import UnreadableFile

_REMEDY = "name a file that people write, or save what it says as text"
_LOCKS = ("package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "composer.lock", "packages.lock.json")
_PACKED_NAME = re.compile(r"[.-](?:min|bundle)\.[a-z]+$", re.IGNORECASE)
_PACKED_SUFFIX = ".gz"
# Longer than any file that people write and read; beyond it there are tables of data and compilers' output.
_MOST_BYTES = 2_000_000
# Lines of code written by hand have 30 to 40 characters, and hardly any has more than some hundred.
_LONG_LINE = 500
_MOST_IN_LONG_LINES = 0.5
_SETTINGS = (".json", ".toml", ".yaml", ".yml", ".ini", ".cfg", ".conf", ".properties")
_MOST_SETTINGS_BYTES = 200_000

_WORDS = (
    "class|def|func|function|fn|fun|interface|struct|enum|trait|impl|type|module|namespace|object|"
    "protocol|extension|record|sub|message|service|package|mod|table|view|procedure|union|data|"
    "defmodule"
)
_BEFORE = (
    "export|default|public|private|protected|internal|static|final|abstract|sealed|async|pub|unsafe|"
    "extern|inline|open|override|data|create|replace|temporary|temp|or|partial|virtual|declare|local"
)
_DEFINITION = re.compile(
    rf"(?:(?:{_BEFORE})(?:\([^)]{{0,20}}\))?[ \t]+){{0,6}}(?:{_WORDS})\b[ \t]*"
    r"(?:\([^)]{0,80}\)[ \t]*|<[^>]{0,40}>[ \t]*|if not exists[ \t]+)?(?P<name>[A-Za-z_$][\w$.:]*)",
    re.IGNORECASE,
)
_ASSIGNED = re.compile(
    r"(?:export[ \t]+)?(?:default[ \t]+)?(?:const|let|var)[ \t]+(?P<name>[A-Za-z_$][\w$]*)[ \t]*=[ \t]*"
    r"(?:async\b|function\b|class\b|\()"
)
_CALLED = re.compile(r"(?:[A-Za-z_][\w:<>,*&\[\]]*[ \t*&]+){1,5}(?P<name>[A-Za-z_~][\w:~]*)[ \t]*\([^;]*$")
_SHELL = re.compile(r"(?P<name>[A-Za-z_][\w-]*)[ \t]*\(\)[ \t]*\{?")
_PART = re.compile(r"\[{1,2}(?P<name>[^\[\]\n]{1,100})\]{1,2}[ \t]*(?:#.*)?$")
_KEY = re.compile(r"(?P<name>[A-Za-z_][\w.-]*):(?:[ \t].*)?$")
_STATEMENTS = re.compile(
    r"(?:return|if|else|for|while|switch|case|throw|using|import|goto|new|delete|print)\b"
)
_C_LIKE = (".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".java", ".cs", ".dart", ".kt")
_PATTERNS = {
    **dict.fromkeys((".toml", ".ini", ".cfg", ".conf"), (_PART,)),
    ".properties": (),
    ".yaml": (_KEY,),
    ".yml": (_KEY,),
    ".json": (),
    ".sh": (_DEFINITION, _SHELL),
    ".bash": (_DEFINITION, _SHELL),
    ".zsh": (_DEFINITION, _SHELL),
}


# Escapes are looked at one after the other, so that what stands behind an escaped backslash is none.
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.", re.DOTALL
)


def read_code(stream: BinaryIO, name: str) -> Iterator[Document]:
    """Source code as it is: blocks between blank lines, under the definition that they belong to.

    The title is the name of the file with its ending. JSON has characters where escapes by number
    stood, as people search for them.

    Raises:
        UnreadableFile: binary; or written by a program for a program (lists of locked packages, minified
            code, data), in which nobody reads.
    """
    path = PurePath(name.lower().removesuffix(_PACKED_SUFFIX))
    if path.name in _LOCKS or _PACKED_NAME.search(path.name):
        raise UnreadableFile(name, "written by a program, not by people", _REMEDY)
    most = _MOST_SETTINGS_BYTES if path.suffix in _SETTINGS else _MOST_BYTES
    data = stream.read(most + 1)
    if len(data) > most:
        reason = f"more than {most / 1e6:g} MB of {path.suffix}, which is data or written by a program"
        raise UnreadableFile(name, reason, _REMEDY)
    text = decode(data, name)
    if path.suffix == ".json":
        text = _unescaped(text)
    lines = list(lines_of(text))
    if 2 * sum(end - start for start, end in lines if end - start > _LONG_LINE) > len(text):
        raise UnreadableFile(name, "minified, or data in long lines", _REMEDY)
    shown = PurePath(name).name
    shown = shown[: -len(_PACKED_SUFFIX)] if shown.lower().endswith(_PACKED_SUFFIX) else shown
    yield _outlined(text, lines, path.suffix).document(shown)


def _unescaped(text: str) -> str:
    r"""JSON with characters for their escapes (`\u00fc`), but for those that it needs to stay what it is."""
    return _ESCAPE.sub(lambda escape: _character(escape[0]), text) if r"\u" in text else text


def _character(escape: str) -> str:
    """What an escape by number stands for; others stay, and so do ends of lines and halves of characters."""
    if len(escape) == 2:
        return escape
    found: str = json.loads(f'"{escape}"')
    kept = len(found) != 1 or found in '"\\' or unicodedata.category(found) in ("Cc", "Cs", "Zl", "Zp")
    return escape if kept else found


def _outlined(text: str, lines: list[tuple[int, int]], ending: str) -> Outline:
    outline, group = Outline(text), list[tuple[int, int]]()
    for start, end in [*lines, (len(text), len(text))]:
        if text[start:end].strip():
            group.append((start, end))
        elif group:
            _group(outline, group, ending)
            group = []
    return outline


def _group(outline: Outline, group: list[tuple[int, int]], ending: str) -> None:
    """Lines between blank ones, as blocks: a definition begins a block, with what stands right above it."""
    text, first, above = outline.text, group[0][0], True
    for start, end in group:
        line = text[start:end]
        name = "" if line[:1].isspace() else _defined(line, ending)
        if name:
            if not above:
                outline.block(first, start, "code")
                first = start
            outline.begin(first, name)
            above = False
        elif above and not _may_stand_above(line):
            above = False
        elif not above and not line[:1].isspace() and _may_stand_above(line):
            outline.block(first, start, "code")
            first, above = start, True
    outline.block(first, group[-1][1], "code")


def _may_stand_above(line: str) -> bool:
    """Whether a line may belong to the definition below: a comment, a decorator, an attribute."""
    return line.startswith(("#", "//", "/*", " *", "*", "*/", "@", "--", '"""', "template"))


def _defined(line: str, ending: str) -> str:
    """What a line defines, as its language writes it: `def cut`, `[tool.ruff]`; empty where it's nothing."""
    patterns = _PATTERNS.get(ending, (_DEFINITION, _ASSIGNED, *((_CALLED,) if ending in _C_LIKE else ())))
    for pattern in patterns:
        match = pattern.match(line)
        if match and not _STATEMENTS.match(line):
            return str(match.group("name")).rstrip(":.")
    return ""
