"""Every error as JSON of one shape, with a status that clients understand."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.params import File
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Match

from fidkit.config import refusals
from fidkit.errors import CorpusError, FidkitError, ForeignMemoryError, UsageError
from fidkit.passages.filter import FilterError
from fidkit.server.scheduler import LateError, OverloadedError
from fidkit.wording import counted

_log = logging.getLogger(__name__)
_AWAY_SECONDS = 5
_SAID = 3
"""Fields of a request that a message names, of those that are wrong."""
_AS_CURL = "send files as `curl -F files=@FILE` does"
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


class NoneTakenError(RequestError):
    """Of several files none can be taken.

    Attributes:
        refused: each file with the reason, as records.
    """

    def __init__(self, status: int, message: str, refused: Sequence[Mapping[str, str]]) -> None:
        super().__init__(status, message, "files")
        self.refused = refused


class TooLargeError(HTTPException):
    """A request of more bytes than are taken.

    It is one of Starlette's, since what else is raised while a body is parsed is told as a fault of its JSON.
    """

    def __init__(self, most: int) -> None:
        super().__init__(
            413, f"the request is larger than the {most:,} bytes that are taken; send less at once"
        )
        self.values = {"most": most}


class _Told(NamedTuple):
    """What a response says of an error."""

    status: int
    message: str
    param: str | None = None
    headers: Mapping[str, str] | None = None
    code: str = ""
    values: Values | None = None
    refused: Sequence[Mapping[str, str]] = ()


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
    if told.refused:
        found["refused"] = [{name: _text(value) for name, value in one.items()} for one in told.refused]
    return JSONResponse({"error": found}, told.status, told.headers)


def _text(value: int | str) -> int | str:
    """What can be sent: a message may quote what is no text."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _told(error: BaseException) -> _Told:
    if isinstance(error, RequestError):
        refused = error.refused if isinstance(error, NoneTakenError) else ()
        return _Told(error.status, str(error), error.param, values=error.values, refused=refused)
    if isinstance(error, OverloadedError):
        return _for_later(str(error), math.ceil(error.retry_after))
    if isinstance(error, LateError):
        return _Told(504, str(error))
    if isinstance(error, ValidationError):
        return _Told(422, *_refused(error.errors(), None))
    if isinstance(error, FilterError):
        return _Told(404, f"where: {error}", "where")
    if isinstance(error, UsageError):
        return _Told(422, str(error))
    # A database is away, or an index or a memory is being replaced.
    if isinstance(error, CorpusError | ForeignMemoryError):
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


def handle_all(app: Starlette) -> None:
    """Have an application say every error so."""

    async def say(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, HTTPException) and error.status_code in (400, 404, 405):
            return _of_the_framework(app, request, error)
        return of(error)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return response(422, *_invalid(request, error))

    for kind in (RequestError, OverloadedError, LateError, FidkitError, HTTPException, Exception):
        app.add_exception_handler(kind, say)
    app.add_exception_handler(RequestValidationError, invalid)


def _of_the_framework(app: Starlette, request: Request, error: HTTPException) -> JSONResponse:
    """A refusal of what stands in front of routes, in our words: who answers raises `RequestError`."""
    path = request.scope["path"]
    if error.status_code == 404:
        return response(404, f"there is nothing at {path}; /api lists what there is")
    if error.status_code == 405:
        methods = _methods(app, request)
        taken = ", ".join(methods)
        verb = "is" if len(methods) == 1 else "are"
        message = f"{request.method} isn't taken at {path}; {taken} {verb}"
        return response(405, message, None, {"Allow": taken})
    if "json" in request.headers.get("content-type", ""):
        return response(
            400, f"the body can't be read as JSON: {_unread(error.__cause__)}; mend it there", "body"
        )
    why = str(error.detail).rstrip(".")
    message = f"the body can't be read as a form: {why}; {_AS_CURL}"
    return response(400, message, "body")


def _unread(cause: BaseException | None) -> str:
    """Why a body that may be JSON couldn't be read."""
    if isinstance(cause, UnicodeDecodeError):
        return f"it isn't UTF-8 at byte {cause.start:,}"
    if isinstance(cause, RecursionError):
        return "it is nested too deeply"
    return "a number in it has too many digits"  # which is all that is left


def _invalid(request: Request, error: RequestValidationError) -> tuple[str, str]:
    """What is wrong with a request that its route doesn't take, and the field that it is wrong with."""
    found, body = error.errors(), error.body
    if found[0]["type"] == "json_invalid":
        at, why = found[0]["loc"][-1], found[0].get("ctx", {}).get("error", "no JSON")
        return f"the body is no JSON: {why} at character {at}; mend it there", "body"
    if found[0]["loc"] == ("body",) and isinstance(body, bytes):
        return "the body wasn't read as JSON; send it with the header Content-Type: application/json", "body"
    taken = request.scope["route"].dependant.body_params
    if found[0]["loc"][0] == "body" and _is_no_form(request, taken):
        return f"the body is no form with files; {_AS_CURL}", "body"
    model = taken[0].field_info.annotation if len(taken) == 1 else None
    # What comes first in a place is the part of the request: its body, path or query.
    inside = [{**one, "loc": one["loc"][1:], **_file(one)} for one in found]
    message, param = _refused(inside, body, model)
    return f"{message}; /api describes what is taken", param


def _is_no_form(request: Request, taken: Sequence[Any]) -> bool:
    """Whether a route takes files, and a request can't have any since its body isn't such a form."""
    takes_files = any(isinstance(field.field_info, File) for field in taken)
    return takes_files and "multipart/form-data" not in request.headers.get("content-type", "").lower()


def _file(error: Mapping[str, Any]) -> Mapping[str, Any]:
    """An error about a file that was given as text, in words: those of FastAPI name its own classes."""
    if error["type"] != "value_error" or "UploadFile" not in error["msg"]:
        return {}
    return {"msg": "expected a file with a name, got a text"}


def _methods(app: Starlette, request: Request) -> list[str]:
    """What the path of a request may be asked for; its router knows of one route of the path alone."""
    allowed = [
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in app.routes)
    ]
    return [*allowed, *(["HEAD"] if "GET" in allowed else [])]  # the guard makes a GET of it


def _refused(
    errors: Sequence[Mapping[str, Any]], body: Any, model: type[Any] | None = None
) -> tuple[str, str]:
    """What is wrong with the fields of a request, and the first of them."""
    found = refusals(errors, body, model, key="field")
    more = f"; and {counted(len(found) - _SAID, 'other field')}" if len(found) > _SAID else ""
    return "; ".join(one.why if one.where else f"body: {one.why}" for one in found[:_SAID]) + more, (
        found[0].where or "body"
    )
