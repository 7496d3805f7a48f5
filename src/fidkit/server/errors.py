"""Every error as JSON of one shape, with a status that clients understand."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from fidkit.errors import CorpusError, FidkitError, UsageError
from fidkit.passages.filter import FilterError
from fidkit.server.scheduler import LateError, OverloadedError

_log = logging.getLogger(__name__)
_AWAY_SECONDS = 5
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_CODES = {
    400: "bad_request", 401: "no_key", 403: "forbidden", 404: "not_found", 405: "method_not_allowed",
    408: "too_slow", 409: "conflict", 413: "too_large", 415: "unsupported", 422: "invalid",
    421: "misdirected", 429: "too_many", 500: "failure", 503: "overloaded", 504: "late", 507: "no_room",
}  # fmt: skip
_AWAY = "away"
Values = Mapping[str, int | str]


class RequestError(Exception):
    """A request that can't be answered as it is.

    Attributes:
        status: of HTTP.
        param: what of the request is meant.
        values: numbers and names of the message, for whoever says it in other words.
    """

    def __init__(self, status: int, message: str, param: str | None = None, **values: int | str) -> None:
        super().__init__(message)
        self.status, self.param, self.values = status, param, values

    @property
    def code(self) -> str:
        """A word for what is wrong."""
        return _code(self.status)


def _code(status: int) -> str:
    return _CODES.get(status, "failure")


class TooLargeError(HTTPException):
    """A request of more bytes than are taken.

    It is one of Starlette's, since what else is raised while a body is parsed is told as a fault of its JSON.
    """

    def __init__(self, most: int) -> None:
        super().__init__(413, f"the request is larger than the {most:,} bytes that are taken")
        self.values = {"most": most}


class _Told(NamedTuple):
    """What a response says of an error."""

    status: int
    message: str
    param: str | None = None
    headers: Mapping[str, str] | None = None
    code: str = ""
    values: Values | None = None


def response(
    status: int, message: str, param: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The response of an error."""
    return _response(_Told(status, message, param, headers))


def of(error: BaseException) -> JSONResponse:
    """The response that says what went wrong."""
    return _response(_told(error))


def said(error: BaseException) -> str:
    """What went wrong, in the words of its response."""
    return _told(error).message


def _response(told: _Told) -> JSONResponse:
    found: dict[str, object] = {
        "message": _text(told.message),
        "type": "invalid_request_error" if told.status < 500 else "server_error",
        "code": told.code or _code(told.status),
        "param": told.param,
    }
    if told.values:
        found["values"] = {name: _text(value) for name, value in told.values.items()}
    return JSONResponse({"error": found}, told.status, told.headers)


def _text(value: int | str) -> int | str:
    """What can be sent: a message may quote what is no text."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _told(error: BaseException) -> _Told:
    if isinstance(error, RequestError):
        return _Told(error.status, str(error), error.param, values=error.values)
    if isinstance(error, OverloadedError):
        return _for_later(str(error), math.ceil(error.retry_after))
    if isinstance(error, LateError):
        return _Told(504, str(error))
    if isinstance(error, ValidationError):
        return _Told(422, *_first(error.errors()))
    if isinstance(error, FilterError):
        return _Told(404, f"where: {error}", "where")
    if isinstance(error, UsageError):
        return _Told(422, str(error))
    if isinstance(error, CorpusError):  # a database is away, or an index is being replaced
        _log.error("%s", error)
        message = "the documents can't be searched at the moment; ask again in a few seconds"
        return _for_later(message, _AWAY_SECONDS, _AWAY)
    if isinstance(error, HTTPException):
        values = error.values if isinstance(error, TooLargeError) else None
        return _Told(error.status_code, str(error.detail), None, error.headers, values=values)
    # It may name files of this machine, which are nobody's business elsewhere.
    unexpected = None if isinstance(error, FidkitError) else error
    _log.error("%s: %s", type(error).__name__, error, exc_info=unexpected)
    return _Told(500, "something went wrong here; the server's log says what")


def _for_later(message: str, seconds: int, code: str = "") -> _Told:
    """Of what may go well in a moment. The seconds are in the body as well, since events have no headers."""
    return _Told(503, message, None, {"Retry-After": str(seconds)}, code, {"retry_after": seconds})


def handle_all(app: FastAPI) -> None:
    """Have an application say every error so."""

    async def say(request: Request, error: Exception) -> JSONResponse:
        if not isinstance(error, HTTPException) or error.status_code not in (404, 405):
            return of(error)
        path, taken = request.scope["path"], _methods(app, request)
        if error.status_code == 404:  # of the router: who looks for a thing raises `RequestError`
            return response(404, f"there is nothing at {path}; /api lists what there is")
        message = f"{request.method} isn't taken at {path}; {', '.join(taken)} is"
        return response(405, message, None, {"Allow": ", ".join(taken)})

    async def invalid(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        found = error.errors()
        if found[0]["type"] == "json_invalid":
            at = found[0]["loc"][-1]
            why = found[0].get("ctx", {}).get("error", "no JSON")
            return response(422, f"the body is no JSON: {why} at character {at}", "body")
        if found[0]["loc"] == ("body",) and isinstance(error.body, bytes):
            return response(
                422, "the body wasn't read as JSON; send it with the header Content-Type: application/json",
                "body",
            )  # fmt: skip
        return response(422, *_first(found))

    for kind in (RequestError, OverloadedError, LateError, FidkitError, HTTPException, Exception):
        app.add_exception_handler(kind, say)
    app.add_exception_handler(RequestValidationError, invalid)


def _methods(app: FastAPI, request: Request) -> list[str]:
    """What the path of a request may be asked for; its router knows of one route of the path alone."""
    allowed = [
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in app.routes)
    ]
    return [*allowed, *(["HEAD"] if "GET" in allowed else [])]  # the guard makes a GET of it


def _first(errors: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """What is wrong first, and where in the request."""
    # Of the kinds that a field may be of, the one is meant that it is most like.
    found = max(errors, key=lambda one: len(one["loc"]))
    inside = [part for part in found["loc"] if part not in ("body", "query", "path")]
    # Behind a field's name come the kinds that it may be of, which say nothing to a person.
    named = [str(part) for n, part in enumerate(inside) if n == 0 or isinstance(part, int)]
    where = ".".join(named) or "body"
    return f"{where}: {found['msg']}", where
