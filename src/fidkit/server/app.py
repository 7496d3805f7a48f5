"""The application: routes behind a guard."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.types import ASGIApp

from fidkit import __version__
from fidkit.server import errors
from fidkit.server.asking import documented
from fidkit.server.guard import Access, Guard
from fidkit.server.metrics import Metrics
from fidkit.server.routes import answering, state
from fidkit.server.service import Service

_ABOUT = """Questions answered from documents, with the place of every answer.

Errors have one shape, `{"error": {"message", "type", "code", "param"}}`. 503 says with `Retry-After` when to
ask again. Limits of this server:

"""


def application(service: Service, access: Access | None = None) -> ASGIApp:
    """What a server runs, for any ASGI server.

    Args:
        service: answers; it is left open.
        access: who may ask; by default everybody on this machine.
    """
    metrics = Metrics(service)
    service.answered = metrics.answered
    app = FastAPI(
        title="fidkit", version=__version__, description=_ABOUT + documented(service.limits),
        docs_url=None, redoc_url=None, openapi_url="/openapi.json",
    )  # fmt: skip
    errors.handle_all(app)
    app.include_router(answering.router(service))
    app.include_router(state.router(service, metrics))
    return Guard(app, access or Access(), service.limits, metrics.request)
