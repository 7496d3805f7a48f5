"""`/v1/documents`: what is served and added; `/v1/passages` and `/v1/pages`: where evidence stands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, File, Path, Query, Request, Response, UploadFile
from sse_starlette import EventSourceResponse, ServerSentEvent

from fidkit.errors import CorpusError, UsageError
from fidkit.passages.local.corpus import Corpus
from fidkit.passages.showing import found, record_of
from fidkit.server.asking import while_there
from fidkit.server.errors import RequestError
from fidkit.server.library import Library, said_of
from fidkit.server.pictures import Pictures
from fidkit.server.routes.answering import REFUSALS
from fidkit.server.schemas import AddedFile, Documents, Served, Shown, Taken
from fidkit.server.service import Service

Source = Annotated[
    str, Path(description="A document with its characters, as evidence has it: `notes/a.md:120-734`.")
]


def router(service: Service, library: Library | None) -> APIRouter:
    """Of a service, and what is served."""
    made = APIRouter(prefix="/v1", tags=["documents"], responses=REFUSALS)
    pictures = Pictures()

    @made.get("/documents", summary="What is served, and what was added")
    async def documents(
        limit: Annotated[int, Query(ge=0, le=1000)] = 100, offset: Annotated[int, Query(ge=0)] = 0
    ) -> Documents:
        return await asyncio.to_thread(_documents, service, library, limit, offset)

    @made.post("/documents", status_code=202, summary="Add documents")
    async def add(files: Annotated[list[UploadFile], File(description="One or several.")]) -> Taken:
        """Add files, which are indexed in the background; `/v1/documents/events` says how that goes."""
        library_ = _of(library)
        names = [await asyncio.to_thread(library_.add, file.filename or "", file.file) for file in files]
        return Taken(names=names, message=said_of(names))

    @made.delete("/documents/{name}", status_code=202, summary="Take out a document that was added")
    async def remove(name: str) -> Taken:
        await asyncio.to_thread(_of(library).remove, name)
        return Taken(names=[name], message="taken out in a moment")

    @made.get("/documents/events", summary="How indexing goes", response_class=EventSourceResponse)
    async def events() -> EventSourceResponse:
        """Server-sent events `progress`, `indexed` and `error`."""
        library_ = _of(library)

        async def said() -> AsyncIterator[ServerSentEvent]:
            queue = library_.listen()
            try:
                while True:
                    event = await queue.get()
                    yield ServerSentEvent(json.dumps(event), event=event["event"])
            finally:
                library_.forget(queue)

        return EventSourceResponse(said(), send_timeout=service.limits.quiet_seconds)

    @made.get("/passages/{source:path}", summary="A passage in its surroundings")
    async def passage(source: Source) -> Shown:
        return Shown.model_validate(await asyncio.to_thread(shown, service, source))

    @made.get(
        "/pages/{source:path}",
        summary="Its page as a picture, marked",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}},
    )
    async def page(source: Source, request: Request) -> Response:
        with service.opened_corpus() as corpus:
            drawn = await while_there(request, pictures.of(corpus, source))
        return Response(drawn, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

    return made


def _of(library: Library | None) -> Library:
    if library is None:
        raise RequestError(409, "nothing can be added to the documents that are served here")
    return library


def _documents(service: Service, library: Library | None, limit: int, offset: int) -> Documents:
    added = [] if library is None else library.added()
    with service.opened_corpus() as corpus:
        assert isinstance(corpus, Corpus)
        files = sorted(corpus.files(), key=lambda file: file.name)
    served = [
        Served(
            name=file.name,
            size=file.size,
            passages=file.passages,
            status="left out" if file.kind == "skipped" or not file.passages else "indexed",
            reason=file.note,
        )
        for file in files[offset : offset + limit]
    ]
    return Documents(
        total=len(files),
        documents=served,
        added=[AddedFile.model_validate(one) for one in added],
        can_add=library is not None and library.folder is not None,
    )


def shown(service: Service, source: str) -> dict[str, object]:
    """Characters of a document in their surroundings.

    Raises:
        RequestError: no such document, or characters that it doesn't have.
    """
    with service.opened_corpus() as corpus:
        assert isinstance(corpus, Corpus)
        try:
            document, span = found(corpus, source)
        except CorpusError as error:
            raise RequestError(404, f"no document is called {source!r}", "source") from error
        except UsageError as error:
            raise RequestError(404, str(error), "source") from error
        where = corpus.place(document.record.source, span or (0, len(document.text)))
        record = record_of(document, span, where)
        del record["file"]  # a path of this machine
        return record
