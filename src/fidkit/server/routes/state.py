"""What is served, and how it goes: `/v1/readers`, `/v1/corpora`, `/healthz`, `/readyz`, `/metrics`."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Response

from fidkit.passages.local.corpus import Corpus
from fidkit.passages.local.info import kinds_of
from fidkit.server.library import standing
from fidkit.server.metrics import Metrics
from fidkit.server.schemas import CorpusState, Error, Health, Reader, Readers, Ready
from fidkit.server.service import Service
from fidkit.server.told import without_places

STUCK_SECONDS = 60.0
"""After so long with one batch the server says that it isn't ready."""


def router(service: Service, metrics: Metrics) -> APIRouter:
    """Of a service."""
    made = APIRouter()

    @made.get("/healthz", summary="Whether the server runs", tags=["state"])
    async def healthz() -> Health:
        return Health()

    @made.get("/readyz", summary="Whether it answers", tags=["state"], responses={503: {"model": Ready}})
    async def readyz(response: Response) -> Ready:
        stuck = service.scheduler.busy_seconds > STUCK_SECONDS
        response.status_code = 503 if stuck else 200
        return Ready(
            status="stuck" if stuck else "ready",
            waiting=service.scheduler.waiting,
            running=service.scheduler.running,
        )

    @made.get("/metrics", summary="For Prometheus", tags=["state"], response_class=Response)
    async def prometheus() -> Response:
        return metrics.response()

    @made.get("/v1/readers", summary="The readers that are served", tags=["state"], responses=_KEY)
    async def readers() -> Readers:
        return Readers(
            readers=[
                Reader(name=name, default=n == 0, calibrated=service.is_calibrated(name))
                for n, name in enumerate(service.readers)
            ]
        )

    @made.get("/v1/corpora", summary="The documents that are served", tags=["state"], responses=_KEY)
    async def corpora() -> list[CorpusState]:
        return [await asyncio.to_thread(corpus_state, service)]

    return made


_KEY: dict[int | str, dict[str, Any]] = {401: {"model": Error}}


def corpus_state(service: Service) -> CorpusState:
    """What of the documents a person should know."""
    with service.opened_corpus() as corpus:
        assert isinstance(corpus, Corpus)
        info, noted = corpus.info(), corpus.noted()
        standings = [(file, *standing(file, noted)) for file in corpus.files()]
        found = [file for file, status, _ in standings if status == "indexed"]
        left_out = [(file.name, reason) for file, status, reason in standings if status == "left out"]
        return CorpusState(
            name=service.corpus_name,
            documents=info.documents,
            files=len(found),
            passages=info.passages,
            generation=corpus.generation,
            kinds=kinds_of(found),
            left_out=left_out,
            notes=without_places(service.notes),
        )
