"""Every error as JSON of one shape, with a status that clients understand."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

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
    421: "misdirected", 429: "too_many", 500: "failure", 503: "overloaded", 504: "late",
}  # fmt: skip


class RequestError(Exception):
    """A request that can't be answered as it is.

    Attributes:
        status: of HTTP.
        param: what of the request is meant.
    """

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param = status, param


def problem(status: int, message: str, param: str | None = None) -> dict[str, object]:
    """The body of an error."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    message = message.encode("utf-8", "replace").decode()  # it may quote what is no text
    found = {"message": message, "type": kind, "code": _CODES.get(status, "failure"), "param": param}
    return {"error": found}


def response(
    status: int, message: str, param: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The response of an error."""
    return JSONResponse(problem(status, message, param), status, headers)


def of(error: BaseException) -> JSONResponse:
    """The response that says what went wrong."""
    return response(*_told(error))


def said(error: BaseException) -> str:
    """What went wrong, in the words of its response."""
    return _told(error)[1]


def _told(error: BaseException) -> tuple[int, str, str | None, Mapping[str, str] | None]:
    """Status, message, what of the request is meant, and headers."""
    if isinstance(error, RequestError):
        return error.status, str(error), error.param, None
    if isinstance(error, OverloadedError):
        return 503, str(error), None, {"Retry-After": str(math.ceil(error.retry_after))}
    if isinstance(error, LateError):
        return 504, str(error), None, None
    if isinstance(error, ValidationError):
        message, where = _first(error.errors())
        return 422, message, where, None
    if isinstance(error, FilterError):
        return 404, f"where: {error.told}", "where", None
    if isinstance(error, UsageError):
        return 422, str(error), None, None
    if isinstance(error, CorpusError):  # a database is away, or an index is being replaced
        _log.error("%s", error)
        told = "the documents can't be searched at the moment; ask again in a few seconds"
        return 503, told, None, {"Retry-After": str(_AWAY_SECONDS)}
    if isinstance(error, HTTPException):
        return error.status_code, str(error.detail), None, error.headers
    # It may name files of this machine, which are nobody's business elsewhere.
    unexpected = None if isinstance(error, FidkitError) else error
    _log.error("%s: %s", type(error).__name__, error, exc_info=unexpected)
    return 500, "something went wrong here; the server's log says what", None, None


def handle_all(app: FastAPI) -> None:
    """Have an application say every error so."""

    async def say(request: Request, error: Exception) -> JSONResponse:
        said = of(error)
        if said.status_code == 405:
            said.headers["Allow"] = ", ".join(_methods(app, request))
        return said

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
