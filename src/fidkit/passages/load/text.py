"""Documents as plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from fidkit.passages.load.charset import decode
from fidkit.passages.load.document import Document
from fidkit.passages.load.outline import Outline

_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")


def read_text(stream: BinaryIO, name: str) -> Iterator[Document]:
    """A text as it is, with paragraphs between blank lines; line ends are not translated.

    Raises:
        UnreadableFile: binary, or in an encoding that can't be told.
    """
    text = decode(stream.read(), name)
    outline, start = Outline(text), 0
    for blank in _BLANK_LINES.finditer(text):
        outline.block(start, blank.start())
        start = blank.end()
    outline.block(start, len(text))
    yield outline.document("")
