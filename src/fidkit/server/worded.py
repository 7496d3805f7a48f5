"""MCP over HTTP: what is no message is refused in our words; the library lists all that it tried."""

from __future__ import annotations

import json

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_THEIRS = "Validation error:"
_OURS = (
    "the body is no message of JSON-RPC; expected one JSON object, such as "
    '{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'
)


class Worded:
    """An application of MCP.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun: Message | None = None

        async def say(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start" and message["status"] == 400:
                begun = message  # until it is known how long what follows is
                return
            if begun is not None:
                if not message.get("more_body"):
                    message = {**message, "body": _worded(message["body"])}
                    MutableHeaders(scope=begun)["Content-Length"] = str(len(message["body"]))
                await send(begun)
                begun = None
            await send(message)

        await self._app(scope, receive, say)


def _worded(body: bytes) -> bytes:
    try:
        record = json.loads(body)
        if not record["error"]["message"].startswith(_THEIRS):
            return body
    except (ValueError, KeyError, TypeError):
        return body
    record["error"]["message"] = _OURS
    return json.dumps(record).encode()
