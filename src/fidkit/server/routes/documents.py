"""`/v1/documents`: what is served and added; `/v1/passages` and `/v1/pages`: where evidence stands."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, File, Path, Query, Request, Response, UploadFile
from sse_starlette import EventSourceResponse, ServerSentEvent

from fidkit.errors import CorpusError, UsageError
from fidkit.passages import Passages
from fidkit.passages.local.corpus import Corpus, StoredDocument
from fidkit.passages.showing import found, record_of
from fidkit.server.asking import while_there
from fidkit.server.errors import NoneTakenError, RequestError
from fidkit.server.library import NAMED, Library, file_name, said_of, standing
from fidkit.server.limits import Limits
from fidkit.server.pictures import Pictures
from fidkit.server.routes.answering import REFUSALS
from fidkit.server.schemas import AddedFile, Documents, Error, Refused, Served, Shown, Taken
from fidkit.server.service import Service
from fidkit.wording import some

Source = Annotated[
    str, Path(description="A document with its characters, as evidence has it: `notes/a.md:120-734`.")
]

_LOOK_SECONDS = 0.25
"""How often a response that waits for events looks whether it should end."""
_AGAIN_MS = 500
"""After which a browser asks for events again."""


def router(service: Service, library: Library | None) -> APIRouter:
    """Of a service, and what is served."""
    refusals: dict[int | str, dict[str, Any]] = {status: {"model": Error} for status in (409, 415, 507)}
    made = APIRouter(prefix="/v1", tags=["documents"], responses=REFUSALS | refusals)
    pictures = Pictures()

    @made.get("/documents", summary="What is served, and what was added")
    async def documents(
        limit: Annotated[int, Query(ge=0, le=1000)] = 100, offset: Annotated[int, Query(ge=0)] = 0
    ) -> Documents:
        return await asyncio.to_thread(_documents, service, library, limit, offset)

    @made.post("/documents", status_code=202, summary="Add documents")
    async def add(
        files: Annotated[list[UploadFile], File(min_length=1, description="One or several.")],
    ) -> Taken:
        """Add files, which are indexed in the background; `/v1/documents/events` says how that goes.

        Of several, those that can't be taken are named, and the others are taken. Where none can, that is an
        error that names all of them.
        """
        return await _added(_of(library), files)

    @made.delete("/documents/{name}", status_code=202, summary="Take out a document that was added")
    async def remove(name: str) -> Taken:
        await asyncio.to_thread(_of(library).remove, name)
        return Taken(names=[name], refused=[], message="taken out in a moment")

    @made.get("/documents/events", summary="How indexing goes", response_class=EventSourceResponse)
    async def events() -> EventSourceResponse:
        """Server-sent events `progress`, `indexed` and `error`, for a while; then ask again."""
        return _events(_of(library), service.limits)

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
            await asyncio.to_thread(_found, corpus, source)
            drawn = await while_there(request, pictures.of(corpus, source))
        return Response(drawn, media_type="image/png", headers={"Cache-Control": "private, no-cache"})

    return made


async def _added(library: Library, files: Sequence[UploadFile]) -> Taken:
    """Which files were taken, and which weren't; an error where none was."""
    names, faults, refused = list[str](), list[RequestError](), list[Refused]()
    for file in files:
        name = file.filename or ""
        try:
            _refuse_another(name, names)
            names.append(await asyncio.to_thread(library.add, name, file.file))
        except RequestError as error:
            error.values["name"] = name
            faults.append(error)
            refused.append(Refused(name=name, reason=str(error), code=error.code))
    if not names:
        raise _none_taken(faults, refused)
    return Taken(names=names, refused=refused, message=said_of(names, [one.name for one in refused]))


def _refuse_another(name: str, names: Sequence[str]) -> None:
    """Refuse a file in whose place another one of the same request was put a moment ago.

    Folders have files of one name, and who sends both wants to lose neither.
    """
    if file_name(name) in names:
        raise RequestError(
            409, f"{file_name(name)}: another file of this request has that name; give it another", "name"
        )


def _none_taken(faults: Sequence[RequestError], refused: Sequence[Refused]) -> RequestError:
    """The error of files of which none was taken: the reason that all have, or one that names them."""
    if len({str(fault) for fault in faults}) == 1:
        return faults[0]
    names = some([one.name for one in refused], NAMED)
    return NoneTakenError(
        max(fault.status for fault in faults),
        f"none of the {len(refused):,} files was taken: {names}; `refused` says why of each",
        [one.model_dump() for one in refused],
    )


def _events(library: Library, limits: Limits) -> EventSourceResponse:
    """What happens to the documents, as it happens."""
    ending = anyio.Event()

    async def said() -> AsyncIterator[ServerSentEvent]:
        queue = library.listen()
        until = time.monotonic() + limits.listening_seconds
        try:
            yield ServerSentEvent(retry=_AGAIN_MS)
            while not ending.is_set() and time.monotonic() < until:
                with contextlib.suppress(TimeoutError):
                    event = await asyncio.wait_for(queue.get(), _LOOK_SECONDS)
                    yield ServerSentEvent(json.dumps(event), event=event["event"])
        finally:
            library.forget(queue)

    # Of uvicorn it is known when it is asked to end; other servers wait until the time is over.
    return EventSourceResponse(
        said(), send_timeout=limits.quiet_seconds, shutdown_event=ending,
        shutdown_grace_period=4 * _LOOK_SECONDS,
    )  # fmt: skip


def _of(library: Library | None) -> Library:
    if library is None:
        raise RequestError(
            409, "nothing can be added to the documents that are served here; serve folders to add some"
        )
    return library


def _documents(service: Service, library: Library | None, limit: int, offset: int) -> Documents:
    with service.opened_corpus() as corpus:
        assert isinstance(corpus, Corpus)
        files, noted = sorted(corpus.files(), key=lambda file: file.name), corpus.noted()
    served = [
        Served(name=file.name, size=file.size, passages=file.passages, status=status, reason=reason)
        for file in files[offset : offset + limit]
        for status, reason in [standing(file, noted)]
    ]
    return Documents(
        total=len(files),
        documents=served,
        added=[AddedFile.model_validate(one) for one in (library.added(files, noted) if library else [])],
        can_add=library is not None and library.folder is not None,
    )


def _found(corpus: Passages, source: str) -> tuple[StoredDocument, tuple[int, int] | None]:
    assert isinstance(corpus, Corpus)
    try:
        return found(corpus, source)
    except CorpusError as error:
        raise RequestError(
            404,
            f"no document is called {source!r}; expected the source of a passage that was found",
            "source",
        ) from error
    except UsageError as error:
        raise RequestError(404, str(error), "source") from error


def shown(service: Service, source: str) -> dict[str, object]:
    """Characters of a document in their surroundings.

    Raises:
        RequestError: no such document, or characters that it doesn't have.
    """
    with service.opened_corpus() as corpus:
        assert isinstance(corpus, Corpus)
        document, span = _found(corpus, source)
        where = corpus.place(document.record.source, span or (0, len(document.text)))
        record = record_of(document, span, where)
        del record["file"]  # a path of this machine
        return record
