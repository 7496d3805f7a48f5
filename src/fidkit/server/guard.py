"""What stands before every route: who may ask, from which page, how much, and how slowly.

It is plain ASGI, so that nothing of a body is read before it has passed.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fidkit.errors import UsageError
from fidkit.server import errors
from fidkit.server.keys import Keys
from fidkit.server.limits import Limits

OPEN = frozenset({"/healthz", "/readyz"})
"""Routes that need no key."""
_ASKING, _PAGE = frozenset({"/", "/enter"}), "/page/"
"""Where the page asks for a key itself, and its files, which are the same everywhere and say nothing of the
documents."""
COOKIE = "fidkit_key"
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"[\w.-]+|[0-9a-fA-F.]*(:[0-9a-fA-F.]*){2,}")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_audit = logging.getLogger("fidkit_audit")

Observe = Callable[[str, int, float], None]
"""Sees each response: path of the route, status, seconds."""


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        keys: one of which is asked for, or None where everybody may who reaches the port.
        hosts: names by which the server is called, beside those of this machine; a page elsewhere that has
            its name point here (DNS rebinding) calls it by another. Small letters, no ports.
    """

    keys: Keys | None = None
    hosts: frozenset[str] = field(default_factory=frozenset)

    def is_host(self, header: str) -> bool:
        """Whether a Host header, or what stands in an Origin, names this server."""
        try:
            parts = urlsplit(f"//{header}")
            name = parts.hostname
        except ValueError:
            return False
        # `localhost/a` and `a@localhost` have a host as well, and are none.
        return (
            name is not None
            and header == parts.netloc
            and "@" not in header
            and (name in _LOCAL or name in self.hosts)
        )


def host_names(given: Sequence[str]) -> list[str]:
    """Names as they are compared: in small letters, and without a port.

    Raises:
        UsageError: one that is none.
    """
    for name in given:
        if not _HOST.fullmatch(name.strip("[]")):
            raise UsageError(
                f"--allow-host {name!r}; expected a name such as answers.example, without a port"
            )
    return [name.strip("[]").lower() for name in given]


class Guard:
    """The application, behind what is asked of a request before it is looked at.

    Args:
        app: what answers.
        access: who may ask.
        limits: of bodies, and of slow clients.
        observe: sees each response.
    """

    def __init__(self, app: ASGIApp, access: Access, limits: Limits, observe: Observe) -> None:
        self._app, self._access, self._limits, self._observe = app, access, limits, observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, headers = time.perf_counter(), Headers(scope=scope)
        caller, status, method = "-", 500, scope["method"]
        if method == "HEAD":  # whatever can be got has a head, which is that of what would be got
            scope, send = {**scope, "method": "GET"}, _head_of(send)

        async def say(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                out = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    out.setdefault(name, value)
                out["X-Request-Id"] = scope["state"]["request"]
            async with asyncio.timeout(self._limits.quiet_seconds):
                await send(message)

        scope.setdefault("state", {})["request"] = uuid.uuid4().hex
        try:
            refused = self._refusal(scope, headers)
            if refused is None:
                caller, refused = self._caller(scope, headers)
            if refused is None:
                body = _Body(receive, self._most(scope), self._limits.quiet_seconds, headers)
                refused = body.refusal()
            if refused is not None:
                await refused(scope, receive, say)
                return
            scope["state"]["caller"] = caller
            await self._app(scope, body, say)
        except TimeoutError:
            status = 408  # it doesn't take its answer: nobody is there to be told
        finally:
            seconds = time.perf_counter() - begun
            route = getattr(scope.get("route"), "path", "unknown")
            self._observe(route, status, seconds)
            # Who asked what route, and how it ended: never what was asked or answered.
            _audit.info(
                "%s %s %s %d %.0f ms %s", scope["state"]["request"], method, route, status,
                1000 * seconds, caller,
            )  # fmt: skip

    def _refusal(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._access.is_host(hosts[0]):
            return errors.response(
                421,
                f"this server isn't called {hosts[0] if hosts else ''!r}; call it by the address that it "
                "printed, or start it with --allow-host",
            )
        origin = headers.get("origin")
        if origin is not None and _address(origin) != hosts[0]:
            return errors.response(403, f"a page of {origin} asked; only this server's own page may")
        return None

    def _caller(self, scope: Scope, headers: Headers) -> tuple[str, ASGIApp | None]:
        """Whose key came with the request, or what to say without one."""
        keys = self._access.keys
        if keys is None or scope["path"] in OPEN:
            return "-", None
        name = keys.owner(_key_of(headers))
        if name is not None:
            return name, None
        if scope["path"] in _ASKING or scope["path"].startswith(_PAGE):
            return "-", None
        return "-", errors.response(
            401,
            "no key that is known here; send one as `Authorization: Bearer KEY`",
            None,
            {"WWW-Authenticate": "Bearer"},
        )

    def _most(self, scope: Scope) -> int:
        upload = scope["path"] == "/v1/documents" and scope["method"] == "POST"
        return self._limits.upload_bytes if upload else self._limits.body_bytes


def _head_of(send: Send) -> Send:
    """Sends a response without its body."""
    ended = False

    async def say(message: Message) -> None:
        nonlocal ended
        if message["type"] == "http.response.start":
            await send(message)
        elif not ended:
            ended = True
            await send({"type": "http.response.body"})

    return say


class _Body:
    """A request's body, as it is received: no longer than it may be, and not slower."""

    def __init__(self, receive: Receive, most: int, quiet_seconds: float, headers: Headers) -> None:
        self._receive, self._most, self._seconds = receive, most, quiet_seconds
        self._said, self._came, self._whole = headers.get("content-length"), 0, False
        self._packed = headers.get("content-encoding", "").replace("identity", "").strip()[:40]

    def refusal(self) -> ASGIApp | None:
        if self._said is not None and self._said.isdigit() and int(self._said) > self._most:
            return errors.of(errors.TooLargeError(self._most))
        if self._packed:
            return errors.response(
                415, f"the body is packed (Content-Encoding: {self._packed}); send it as it is", "body"
            )
        return None

    async def __call__(self) -> Message:
        if self._whole:  # what comes now is that the client leaves, whenever it does
            return await self._receive()
        try:
            async with asyncio.timeout(self._seconds):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(
                408, f"the request's next piece didn't come within {self._seconds:.0f} seconds; send it again"
            ) from None
        if message["type"] == "http.request":
            self._came += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._came > self._most:
                raise errors.TooLargeError(self._most)
        return message


def _key_of(headers: Headers) -> str:
    kind, _, key = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return key.strip()
    # By hand: a parser would give up at what other servers of this machine have set, whatever that is.
    pairs = (pair.partition("=") for pair in ";".join(headers.getlist("cookie")).split(";"))
    return next((value.strip() for name, _, value in pairs if name.strip() == COOKIE), "")


def _address(origin: str) -> str | None:
    """Host and port of an Origin header; None of one that has none."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None
