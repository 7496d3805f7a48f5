"""Hostile web pages, settings, notebooks, RTF and mails."""

from __future__ import annotations

import base64
import json
import zipfile
from collections.abc import Iterator
from io import BytesIO

from documents import mail, packed
from harm.packages import notebook, rich_text, word

_AURORA = "<p>The Aurora sailed in 1901.</p>"
MB = 1_000_000


def files() -> Iterator[tuple[str, bytes]]:
    """Each by its name."""
    yield from _pages()
    yield from _settings()
    yield from _rich_texts()
    yield from _mails()


def _pages() -> Iterator[tuple[str, bytes]]:
    for tag in ("div", "b", "blockquote", "ul><li", "table><tr><td", "font"):
        name = f"{tag.split('>')[0]} in one another.html"
        yield name, (f"<{tag}>" * 100_000 + _AURORA).encode()
    yield "never closed.html", b"<p>Aurora<p>" * 300_000
    yield "attributes.html", b"<p " + b" ".join(b'a%d="x"' % n for n in range(200_000)) + b">Aurora"
    yield "an attribute of 20 MB.html", b'<p title="' + b"x" * 20 * MB + b'">Aurora'
    yield "a comment of 20 MB.html", _AURORA.encode() + b"<!-- " + b"-" * 20 * MB
    yield "a script.html", f"{_AURORA}<script>while (true) fetch('http://x.org')</script>".encode()
    yield "a script without end.html", f"{_AURORA}<script>{'<p>' * MB}".encode()
    yield "spans.html", b"<table><tr><td rowspan=999999999 colspan=999999999>Aurora<td>3</table>"
    wide = "".join(f"<tr><td rowspan=1000 colspan=1000>{n}" for n in range(1_000))
    yield "many spans.html", f"<table><tr><th>Ship<th>Masts{wide}</table>".encode()
    laughs = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;"><!ENTITY f SYSTEM "file:///etc/passwd">]>'
    yield "entities.xhtml", f"{laughs}<html><body>{_AURORA}&b;&f;</body></html>".encode()
    yield "another encoding than it says.html", f"<meta charset=utf-7>{_AURORA} ä".encode("cp1252")
    yield "no such encoding.html", f"<meta charset={'x' * 5000}>{_AURORA} ä".encode("cp1252")
    yield "NUL.html", b"<p>Aur\0ora</p>" * 1000
    yield "numbers of characters.html", b"<p>Aurora &#0; &#xd800; &#x110000; &#99999999999;</p>"


def _settings() -> Iterator[tuple[str, bytes]]:
    yield "arrays in one another.json", b"[" * 100_000 + b"]" * 100_000
    yield "a line of 100 MB.json", b'{"a": "' + b"x" * 100 * MB + b'"}'
    yield "passages in one another.jsonl", b'{"id": 1, "text": ' + b"[" * 500_000 + b"\n"
    yield "a line of 100 MB.jsonl", b'{"id": 1, "text": "' + b"aurora " * 14 * MB + b'"}\n'
    yield "an id twice.jsonl", b'{"id": 1, "text": "Aurora"}\n{"id": 1, "text": "Borealis"}\n'
    deep = b'{"nbformat": 4, "cells": ' + b"[" * 200_000
    yield "cells in one another.ipynb", deep
    yield "cut off.ipynb", notebook()[:-9]
    yield "a list.ipynb", b"[1, 2]"
    yield "no numbers.ipynb", b'{"nbformat": NaN, "cells": [{"cell_type": 3, "source": {"a": Infinity}}]}'
    loud = {"output_type": "stream", "name": "stdout", "text": "x" * 50 * MB}
    cell = {"cell_type": "code", "source": "print(1)", "outputs": [loud], "metadata": {}}
    yield "an output of 50 MB.ipynb", json.dumps({"nbformat": 4, "metadata": {}, "cells": [cell]}).encode()


def _rich_texts() -> Iterator[tuple[str, bytes]]:
    yield "groups in one another.rtf", rb"{\rtf1 " + b"{" * 500_000 + b"Aurora" + b"}" * 500_001
    yield "cut off.rtf", rich_text()[:-20]
    yield "bytes that it hasn't.rtf", rb"{\rtf1 Aurora\bin2000000000 x}"
    yield "words of control.rtf", rb"{\rtf1 Aurora" + rb"\u-9999999999?\uc99999 \'zz" * 100_000 + b"}"
    yield "a picture of 20 MB.rtf", rb"{\rtf1 Aurora {\pict\pngblip " + b"89504e47" * (5 * MB // 2) + b"}}"


def _mails() -> Iterator[tuple[str, bytes]]:
    many = mail(From="a@x.org")
    many.set_content("Here they are.")
    for number in range(1_000):
        many.add_attachment(f"Ship {number} is the Aurora.", filename=f"ship {number}.txt")
    yield "1,000 attachments.eml", bytes(many)
    away = mail(From="a@x.org")
    away.set_content("text")
    for name in (
        "../../outside.txt",
        "/tmp/outside.txt",
        "..\\..\\outside.txt",
        "a\nb.txt",
        "x" * 5000 + ".txt",
    ):
        away.add_attachment("The Aurora.", filename=name.replace("\n", " "))
    away.add_attachment(word(), maintype="application", subtype="octet-stream", filename="../../outside.docx")
    yield "attachments that lead away.eml", bytes(away)
    bomb = mail(From="a@x.org")
    bomb.set_content("text")
    bomb.add_attachment(packed({"a.txt": b"a " * 200 * MB}), maintype="application", subtype="zip",
                        filename="bomb.zip")  # fmt: skip
    yield "an attached bomb.eml", bytes(bomb)
    inner = b"".join(b"Content-Type: multipart/mixed; boundary=%d\n\n--%d\n" % (at, at) for at in range(3000))
    yield "parts in one another.eml", b"Subject: x\n" + inner
    yield "headers without end.eml", b"Subject: " + b"=?utf-8?q?" * 200_000 + b"\nTo: " + b"<a@b>," * 200_000
    nested = b"Subject: innermost\n\nThe Aurora sailed."
    for depth in range(30):
        nested = b"Subject: %d\nContent-Type: message/rfc822\n\n" % depth + nested
    yield "mails in one another.eml", nested
    lines = b"Subject: x\nContent-Transfer-Encoding: base64\n\n"
    yield "broken base64.eml", lines + base64.b64encode(b"The Aurora." * 1000)[:-3] + b"\xff=*="
    yield "no such encoding.eml", b"Subject: =?x-none?b?AAAA?=\nContent-Type: text/plain; charset=x\n\nA \xe4"
    yield "a line of 20 MB.eml", b"Subject: x\n\n" + b"aurora " * (3 * MB)
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.eml", b"Subject: x\n" + inner)
    yield "a mail in parts.zip", stream.getvalue()
