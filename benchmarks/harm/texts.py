"""Hostile texts: lines without end, odd encodings, marks that patterns of Markdown could stumble over."""

from __future__ import annotations

from collections.abc import Iterator

MB = 1_000_000
SAID = "The keeper of Zürich's harbour is Ada. Ей 40 лет. 港の番人です。"
PLAIN = "The keeper of Zürich's harbour is called Zoë Béranger, a café owner from Orléans. " * 20


def files() -> Iterator[tuple[str, bytes]]:
    """Each by its name."""
    yield from _lines()
    yield from _encodings()
    yield from _marks()
    yield from _tables()


def _lines() -> Iterator[tuple[str, bytes]]:
    for ending in ("txt", "md", "rst", "py", "csv", "html"):
        yield f"a line of 100 MB.{ending}", b"aurora " * (100 * MB // 7)
    yield "a word of 100 MB.txt", b"a" * 100 * MB
    yield "100 MB of line ends.txt", b"\n" * 100 * MB
    yield "empty lines and spaces.txt", b"\n \n" * (10 * MB)
    yield "spaces of 20 MB.md", b"Aurora" + b" " * 20 * MB + b"x"
    yield "20 MB of two spaces.rst", b"Aurora\n" + b"  \n" * (7 * MB) + b"x"


def _encodings() -> Iterator[tuple[str, bytes]]:
    yield "UTF-16 without a mark.txt", SAID.encode("utf-16-le")
    yield "UTF-16 of the other order.txt", SAID.encode("utf-16-be")
    yield "UTF-32 without a mark.txt", SAID.encode("utf-32-le")
    yield "half of UTF-16.txt", SAID.encode("utf-16")[:-1]
    yield "Latin-1.txt", PLAIN.encode("latin-1")
    yield "Shift-JIS.txt", ("港の番人はアダさんです。船は北から来ました。" * 20).encode("shift-jis")
    yield "KOI8-R.txt", ("Смотритель гавани живёт у северного мола. " * 20).encode("koi8-r")  # noqa: RUF001
    yield "Big5.md", ("港口的看守人住在北邊的碼頭。船從北方來。" * 20).encode("big5")
    yield "mixed.txt", PLAIN.encode() + PLAIN.encode("latin-1") + PLAIN.encode("utf-16-le")
    yield "NUL.txt", b"Aur\0ora" * 1000
    yield "NUL at its end.txt", PLAIN.encode() + b"\0"
    yield "its mark alone.txt", b"\xef\xbb\xbf"
    yield "half characters.txt", b"Aurora \xed\xa0\x80\xed\xb0\x80 \xf4\x90\x80\x80 \xc0\xaf"
    yield "control.txt", b"Aurora \x1b[2J\x1b]0;title\x07 sailed\r\x08\x08\x7f.\n" * 100
    yield "directions.txt", "Aurora \u202e\u2066\u2067\u200f sailed.\n".encode() * 100
    yield "marks on a letter.txt", ("Z" + "\u0301\u0327\u20dd" * 100_000 + " Aurora").encode()
    yield "nothing to see.txt", "\u200b\u200d\ufeff\u2060\u00ad".encode() * 10_000
    yield "noise.txt", bytes(range(256)) * 1000
    yield "noise.md", bytes(range(128, 256)) * 1000


def _marks() -> Iterator[tuple[str, bytes]]:
    for name, mark in (
        ("brackets", "["), ("links", "[a]("), ("stars", "*a **a "), ("backticks", "`a``"), ("quotes", "> "),
        ("numbers", "1. "), ("pipes", "|"), ("entities", "&amp;<!--"), ("angles", "<a <"), ("hashes", "#"),
    ):  # fmt: skip
        yield f"{name}.md", f"# Aurora\n\n{mark * (900_000 // len(mark))}".encode()
    yield "items in one another.md", "".join(f"{' ' * n}- Aurora\n" for n in range(5_000)).encode()
    yield "fences.md", b"```\nAurora\n~~~\n" * 200_000
    yield "headings.md", b"".join(b"%b Aurora %d\n\n" % (b"#" * (n % 6 + 1), n) for n in range(200_000))
    yield "underlines.rst", b"Aurora\n======\n\n.. _a:\n\n.. note::\n  x\n\n" * 100_000
    yield "directives.rst", b".. include:: /etc/passwd\n\n.. raw:: html\n   :file: /etc/passwd\n\nAurora\n"
    yield "definitions.py", b"def aurora(" * 80_000
    yield "words of SQL.sql", b"create or replace temp " * 40_000
    yield "open brackets.c", b"unsigned long * & " * 45_000


def _tables() -> Iterator[tuple[str, bytes]]:
    yield "formulas.csv", b"Ship,Masts\n=HYPERLINK(\"http://x.org\"),=cmd|'/c calc'!A1\n@SUM(1),+1+1\n"
    yield "a million columns.csv", b"a," * MB + b"\n" + b"1," * MB
    yield "a quote never closed.csv", b'Ship,Masts\nAurora,"3\n' + b"Borealis,4\n" * (2 * MB)
    yield "quotes.csv", b'"' * (5 * MB)
    yield "NUL.csv", b"Ship,Masts\nAur\0ora,3\n"
    yield "a cell of 50 MB.csv", b"Ship,Masts\nAurora," + b"x" * 50 * MB
    yield "quotes.tsv", b"id\ttext\ttitle\n" + b'1\t"a\tb\n' * 3_000
    yield "a line of 100 MB.tsv", b"id\ttext\ttitle\n1\t" + b"aurora " * 14 * MB
