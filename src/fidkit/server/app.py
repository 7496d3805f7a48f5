"""The application: routes behind a guard."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp

from fidkit import __version__
from fidkit.server import errors
from fidkit.server.asking import documented
from fidkit.server.guard import Access, Guard
from fidkit.server.library import Library
from fidkit.server.metrics import Metrics
from fidkit.server.renewal import kept_up
from fidkit.server.routes import answering, documents, openai, page, responses, state
from fidkit.server.service import Service
from fidkit.server.tools import server
from fidkit.server.worded import Worded

_ABOUT = """Questions answered from documents, with the place of every answer.

Errors have one shape, `{"error": {"message", "type", "code", "param"}}`. 503 says with `Retry-After` when to
ask again. Limits of this server:

"""


def application(service: Service, access: Access | None = None, library: Library | None = None) -> ASGIApp:
    """What a server runs, for any ASGI server.

    Args:
        service: answers; it is left open.
        access: who may ask; by default everybody on this machine.
        library: keeps the documents up to date while the application runs; without one they stay as they are.
    """
    metrics, tools, access = Metrics(service), server(service, library), access or Access()
    # Whose page may ask, and by which name, the guard has looked at.
    spoken = tools.streamable_http_app(
        streamable_http_path="/", stateless_http=True, json_response=True,
        max_request_body_size=service.limits.body_bytes,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )  # fmt: skip
    errors.handle_all(spoken)
    service.answered = metrics.answered

    @asynccontextmanager
    async def running(_app: FastAPI) -> AsyncIterator[None]:
        async with tools.session_manager.run(), kept_up(service, library):
            yield

    app = FastAPI(
        lifespan=running,
        title="fidkit", version=__version__, description=_ABOUT + documented(service.limits),
        docs_url=None, redoc_url=None, openapi_url="/openapi.json",
    )  # fmt: skip
    errors.handle_all(app)
    app.include_router(answering.router(service))
    app.include_router(openai.router(service))
    app.include_router(responses.router(service))
    app.include_router(documents.router(service, library))
    app.mount("/mcp", Worded(spoken))
    app.include_router(state.router(service, metrics))
    app.include_router(page.router(access))
    return Guard(app, access, service.limits, metrics.request)
