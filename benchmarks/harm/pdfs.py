"""Hostile PDFs: damaged, encrypted, in circles, of too much, and what is none."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Mapping

from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

_PNG = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010806000000")


def page(text: str = "The Aurora sailed in 1901.", password: str = "", pages: int = 1) -> bytes:
    """A PDF with a text on each page."""
    stream = io.BytesIO()
    lock = StandardEncryption(password, canPrint=0) if password else None
    canvas = Canvas(stream, encrypt=lock, invariant=1)
    for number in range(pages):
        canvas.drawString(72, 700, text if pages == 1 else f"{text} Page {number + 1}.")
        canvas.showPage()
    canvas.save()
    return stream.getvalue()


def made(objects: Mapping[int, bytes], trailer: bytes = b"") -> bytes:
    """A PDF of these objects; the first one is its root."""
    parts, places = [b"%PDF-1.7\n"], {}
    for number, body in objects.items():
        places[number] = sum(map(len, parts))
        parts.append(b"%d 0 obj\n%b\nendobj\n" % (number, body))
    size = max(objects) + 1
    rows = [b"%010d 00000 n \n" % places[n] if n in places else b"0000000000 65535 f \n" for n in range(size)]
    table = b"xref\n0 %d\n%b" % (size, b"".join(rows))
    end = b"trailer\n<</Size %d /Root 1 0 R %b>>\nstartxref\n%d\n%%%%EOF" % (
        size,
        trailer,
        sum(map(len, parts)),
    )
    return b"".join([*parts, table, end])


def stream_of(data: bytes, head: bytes = b"") -> bytes:
    """A stream, packed."""
    packed = zlib.compress(data, 9)
    return b"<</Length %d /Filter /FlateDecode %b>>\nstream\n%b\nendstream" % (len(packed), head, packed)


def _simple(content: bytes, box: bytes = b"0 0 612 792", head: bytes = b"", **more: bytes) -> bytes:
    """A page with a font, and a stream that draws it."""
    resources = b"<</Font <</F 5 0 R>> %b>>" % more.get("resources", b"")
    leaf = b"<</Type /Page /Parent 2 0 R /MediaBox [%b] /Contents 4 0 R /Resources %b>>" % (box, resources)
    objects = {
        1: b"<</Type /Catalog /Pages 2 0 R %b>>" % head,
        2: b"<</Type /Pages /Kids [%b] /Count %b>>" % (more.get("kids", b"3 0 R"), more.get("count", b"1")),
        3: leaf, 4: stream_of(content), 5: b"<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>",
    }  # fmt: skip
    return made(objects | {6: more["extra"]} if "extra" in more else objects)


_SAYS = b"BT /F 12 Tf 72 700 Td (The Aurora sailed in 1901.) Tj ET "


def files() -> Iterator[tuple[str, bytes]]:
    """Each by its name."""
    whole = page(pages=20)
    yield "empty.pdf", b""
    yield "zeros.pdf", bytes(100_000)
    yield "its head alone.pdf", b"%PDF-1.7\n"
    yield "noise.pdf", b"%PDF-1.7\n" + bytes(range(256)) * 400
    yield "a picture.pdf", _PNG + bytes(4000)
    yield "a web page.pdf", b"<!DOCTYPE html><p>The Aurora sailed.</p>"
    for share in (10, 50, 90, 99):
        yield f"cut off at {share} %.pdf", whole[: len(whole) * share // 100]
    yield "encrypted.pdf", page(password="secret")
    yield "10,000 pages.pdf", page(pages=10_000)
    yield "a page of 14 km.pdf", _simple(_SAYS, box=b"0 0 40000000 40000000")
    yield "a page without room.pdf", _simple(_SAYS, box=b"0 0 0 0")
    yield "a box of no numbers.pdf", _simple(_SAYS, box=b"-1e400 1e400 /x null")
    script = b"/OpenAction <</S /JavaScript /JS (while (true) app.alert(1);)>>"
    yield "a script.pdf", _simple(_SAYS, head=script)
    launch = b"/OpenAction <</S /Launch /F (/bin/sh)>>"
    yield "a program to be started.pdf", _simple(_SAYS, head=launch)
    yield "pages in a circle.pdf", _simple(_SAYS, kids=b"2 0 R 2 0 R 3 0 R", count=b"1000")
    yield "a billion pages promised.pdf", _simple(_SAYS, count=b"1000000000")
    yield "the same page 100,000 times.pdf", _simple(_SAYS, kids=b"3 0 R " * 100_000, count=b"100000")
    yield "a stream that unpacks to 500 MB.pdf", _simple(_SAYS + b" " * 500_000_000)
    yield "300,000 words on a page.pdf", _simple(_words(300_000))
    yield "a million lines drawn.pdf", _simple(_SAYS + b"0 0 m 9 9 l S " * 1_000_000)
    yield "states in one another.pdf", _simple(b"q " * 1_000_000 + _SAYS)
    yield "arrays in one another.pdf", _simple(_SAYS, head=b"/X " + b"[" * 100_000 + b"]" * 100_000)
    form = (
        b"<</Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources <</XObject <</X 6 0 R>>>> /Length 12>>\n"
    )
    form += b"stream\n/X Do /X Do \nendstream"
    yield "a drawing in itself.pdf", _simple(_SAYS + b"/X Do", resources=b"/XObject <</X 6 0 R>>", extra=form)
    mark = b"<</Title (x) /Next 6 0 R /First 6 0 R /Dest [3 0 R /Fit]>>"
    yield "an outline in a circle.pdf", _simple(_SAYS, head=b"/Outlines <</First 6 0 R>>", extra=mark)


def _words(count: int) -> bytes:
    lines = b"".join(b"(word %d of the text) Tj 0 -0.01 Td " % at for at in range(count // 5))
    return b"BT /F 1 Tf 72 700 Td " + lines + b"ET"
