"""`/v1/answer` and `/v1/search`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from fidkit.server import errors
from fidkit.server.asking import asked, given_as, searched, while_there
from fidkit.server.errors import RequestError
from fidkit.server.schemas import Answer, AnswerRequest, Answers, Error, HitsOfAll, SearchRequest
from fidkit.server.service import Question, Service
from fidkit.types import Hit

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Error} for status in (400, 401, 403, 404, 408, 413, 415, 421, 422, 500, 503, 504)
}

STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
"""Of a route that answers in events where that is asked for, and in JSON otherwise."""


def router(service: Service) -> APIRouter:
    """Of a service."""
    made = APIRouter(prefix="/v1", tags=["answers"], responses=REFUSALS)

    @made.post(
        "/answer", response_model=Answer | Answers, summary="Answer questions",
        responses=STREAMED,
    )  # fmt: skip
    async def answer(body: AnswerRequest, request: Request) -> Response:
        """Answer one question or several, with evidence."""
        asking = asked(body, service.limits)
        with given_as("reader"):
            reader = service.reader(body.reader)
        if body.stream:
            if len(asking) > 1 or not isinstance(body.question, str):
                raise RequestError(422, "stream: shows one answer; ask one question with it", "stream")
            return streamed(service, asking[0])
        answers = await while_there(request, service.answer(asking))
        records = [a.to_json(q.text, reader) for a, q in zip(answers, asking, strict=True)]
        return _json(records[0] if isinstance(body.question, str) else {"answers": records})

    @made.post("/search", response_model=HitsOfAll, summary="Find passages")
    async def search(body: SearchRequest, request: Request) -> Response:
        """Find the passages that match best, without reading them."""
        found = await while_there(request, searched(service, body.question, body.passages, body.where))
        results = [{"question": text, "hits": [hit_record(hit) for hit in hits]} for text, hits in found]
        return _json({"results": results})

    return made


def streamed(service: Service, question: Question) -> EventSourceResponse:
    """The events of one answer: the passages that are read, its text as it grows, then all of it."""
    events: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def found(hits: Sequence[Hit]) -> None:
        events.put_nowait(("passages", {"passages": [hit_record(hit) for hit in hits]}))

    def grown(text: str) -> None:
        loop.call_soon_threadsafe(events.put_nowait, ("text", {"text": text}))

    async def work() -> None:
        try:
            [answer] = await service.answer([replace(question, stream=grown, found=found)])
        except Exception as error:
            events.put_nowait(("error", json.loads(bytes(errors.of(error).body))))
        else:
            events.put_nowait(("answer", answer.to_json(question.text, service.reader(question.reader))))

    async def said() -> AsyncIterator[ServerSentEvent]:
        task = asyncio.ensure_future(work())
        try:
            while True:
                name, record = await events.get()
                yield ServerSentEvent(json.dumps(record), event=name)
                if name in ("answer", "error"):
                    return
        finally:
            task.cancel()

    limits = service.limits  # at the end of the server it has as long as an answer that isn't streamed
    return EventSourceResponse(
        said(), send_timeout=limits.quiet_seconds, shutdown_grace_period=limits.ending_seconds
    )


def hit_record(hit: Hit) -> dict[str, Any]:
    """A hit as it is given."""
    p = hit.passage
    return {"id": p.id, "title": p.title, "text": p.text, "score": hit.score, "source": p.source}


def _json(record: object) -> Response:
    # What was answered is well-formed already; to look at it again would take as long as a search.
    return Response(json.dumps(record, allow_nan=False), media_type="application/json")
