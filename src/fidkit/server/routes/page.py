"""The page for people: its files, and the field for a key where one is asked for."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from fidkit.server.errors import RequestError
from fidkit.server.guard import COOKIE, Access

_FOLDER = Path(__file__).parents[1] / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_YEAR_SECONDS = 365 * 24 * 3600
# Without a referrer, browsers say of a form that it comes from nowhere, and the guard refuses it.
_FORM = {"Referrer-Policy": "same-origin"}
_RULED_OUT = re.compile(r"\s*q=0(\.0*)?\s*")
_WRONG_PLACE = "<!-- wrong -->"
_WRONG = "This key isn’t known here. Check it, or ask whoever runs the server for another."


@dataclass(frozen=True, slots=True)
class _Kept:
    """A file of the page as it is sent."""

    content: bytes
    packed: bytes
    kind: str
    tag: str


def router(access: Access) -> APIRouter:
    """Of a server with this access."""
    made = APIRouter(include_in_schema=False)
    # A name is looked up here, and never made a path of.
    kept = {path.name: _kept(path) for path in _FOLDER.iterdir() if path.suffix in _TYPES}

    @made.get("/")
    async def index(request: Request) -> Response:
        if _is_asked(request, access):
            return _sent(kept["enter.html"], request, _FORM)
        return _sent(kept["index.html"], request)

    @made.get("/api")
    async def api(request: Request) -> Response:
        return _sent(kept["api.html"], request)

    @made.get("/page/{name}")
    async def file(name: str, request: Request) -> Response:
        if name not in kept:
            raise RequestError(404, f"the page has no file {name!r}", "name")
        return _sent(kept[name], request)

    @made.post("/enter")
    async def enter(request: Request, key: Annotated[str, Form()] = "") -> Response:
        if access.keys is not None and access.keys.owner(key.strip()) is None:
            page = kept["enter.html"].content.decode().replace(_WRONG_PLACE, _WRONG)
            return Response(page, 403, _FORM | {"Cache-Control": "no-store"}, "text/html")
        entered = Response(None, 303, {"Location": "/"})
        if access.keys is not None:
            entered.set_cookie(
                COOKIE, key.strip(), max_age=_YEAR_SECONDS, httponly=True, samesite="strict",
                secure=request.url.scheme == "https",
            )  # fmt: skip
        return entered

    return made


def _kept(path: Path) -> _Kept:
    content = path.read_bytes()
    return _Kept(
        content,
        gzip.compress(content, mtime=0),
        _TYPES[path.suffix],
        f'"{hashlib.sha256(content).hexdigest()[:16]}"',
    )


def _sent(file: _Kept, request: Request, more: Mapping[str, str] | None = None) -> Response:
    """A file, or that the browser has it: it asks each time, so that none is older than the server."""
    headers = {
        "Cache-Control": "no-cache",
        "ETag": file.tag,
        "Vary": "Accept-Encoding, Cookie",
        **(more or {}),
    }
    if file.tag in _listed(request, "if-none-match"):
        return Response(None, 304, headers)
    content = file.content
    if "gzip" in _listed(request, "accept-encoding"):
        content, headers["Content-Encoding"] = file.packed, "gzip"
    return Response(content, media_type=file.kind, headers=headers)


def _listed(request: Request, header: str) -> list[str]:
    """What a header lists and doesn't rule out: `gzip` of `gzip;q=0.5, br;q=0`, and `"a"` of `W/"a"`."""
    listed = (one.partition(";") for one in request.headers.get(header, "").split(","))
    return [one.strip().removeprefix("W/") for one, _, how in listed if not _RULED_OUT.fullmatch(how)]


def _is_asked(request: Request, access: Access) -> bool:
    """Whether the page has to ask for a key: the guard lets `/` pass without one."""
    return access.keys is not None and request.state.caller == "-"
