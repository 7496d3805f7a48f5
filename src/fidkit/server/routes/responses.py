"""`/v1/responses`, as OpenAI's newer clients and Open Responses have it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from fidkit.server.asking import while_there
from fidkit.server.cited import WITH_SOURCES, Cited, cited, question_of
from fidkit.server.errors import RequestError
from fidkit.server.routes.answering import REFUSALS, STREAMED
from fidkit.server.routes.openai import (
    Part,
    asking,
    base_of,
    chosen,
    extra,
    refuse_tools_and_formats,
    text_of,
    usage_of,
)
from fidkit.server.schemas import Said
from fidkit.server.service import Service
from fidkit.types import Answer


class Item(BaseModel):
    """An item of the input; of all kinds, messages alone are read."""

    model_config = ConfigDict(extra="allow")
    type: str = "message"
    role: str = ""
    content: Said | list[Part] | None = None


class ResponsesRequest(BaseModel):
    """A request as OpenAI's clients write it."""

    model_config = ConfigDict(
        extra="allow",
        strict=True,
        json_schema_extra={"examples": [{"model": "pocket", "input": "who wrote it?"}]},
    )
    model: Said = Field("", description="A reader; with `:sources` behind it sources are listed in the text.")
    input: Annotated[Said | list[Item], Field(min_length=1)]
    stream: bool | None = False
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    instructions: str | None = None
    metadata: dict[str, str] | None = None
    previous_response_id: str | None = None
    background: bool | None = False
    tool_choice: str | dict[str, Any] | None = None
    text: dict[str, Any] | None = None


def router(service: Service) -> APIRouter:
    """Of a service."""
    made = APIRouter(prefix="/v1", tags=["OpenAI"], responses=REFUSALS)

    @made.post("/responses", response_model=None, summary="Answer as a response", responses=STREAMED)
    async def responses(body: ResponsesRequest, request: Request) -> Response:
        """Answer the last message of the user."""
        reader, sources = chosen(service, body.model)
        if body.previous_response_id or body.background:
            param = "previous_response_id" if body.previous_response_id else "background"
            raise RequestError(422, f"{param}: nothing is kept here; send all of the input", param)
        form = (body.text or {}).get("format")
        refuse_tools_and_formats(body.tool_choice, form if isinstance(form, dict) else None, "text.format")
        text = _asked(body.input)
        asked = asking(service, text, reader, body.max_output_tokens, "input")
        [answer] = await while_there(request, service.answer([asked]))
        said = cited(answer, base_of(request), sources=sources)
        record = _record(body, reader, said, answer) | extra(answer, text, reader)
        if body.stream:
            return StreamingResponse(_events(record), media_type="text/event-stream")
        return Response(json.dumps(record), media_type="application/json")

    return made


def _asked(given: str | list[Item]) -> str:
    if isinstance(given, str):
        return given
    return question_of([(one.role, text_of(one.content, "input")) for one in given if one.type == "message"])


def _record(body: ResponsesRequest, reader: str, said: Cited, answer: Answer) -> dict[str, Any]:
    """The whole response."""
    read, written = usage_of(answer)
    part = {
        "type": "output_text",
        "text": said.text,
        "annotations": [{"type": "url_citation", **citation} for citation in said.citations],
        "logprobs": [],
    }
    status = "incomplete" if answer.cut else "completed"
    message = {
        "type": "message",
        "id": f"msg_{uuid.uuid4().hex}",
        "status": status,
        "role": "assistant",
        "content": [part],
    }
    now = int(time.time())
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": now,
        "completed_at": None if answer.cut else now,
        "status": status,
        "model": body.model or reader.removesuffix(WITH_SOURCES),
        "output": [message],
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if answer.cut else None,
        "instructions": body.instructions,
        "metadata": body.metadata or {},
        "previous_response_id": None,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": None,
        "tools": [],
        "tool_choice": "none",
        "parallel_tool_calls": False,
        "temperature": 0.0,
        "top_p": 1.0,
        "top_logprobs": 0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "truncation": "disabled",
        "text": {"format": {"type": "text"}},
        "reasoning": None,
        "store": False,
        "background": False,
        "service_tier": "default",
        "safety_identifier": None,
        "prompt_cache_key": None,
        "usage": {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + written,
        },
    }


def _events(record: dict[str, Any]) -> Iterator[str]:
    """The events of a response that is whole; why it is, `routes.openai` says."""
    [message] = record["output"]
    [part] = message["content"]
    number = -1

    def event(kind: str, **fields: object) -> str:
        nonlocal number
        number += 1
        told = {"type": kind, "sequence_number": number, **fields}
        return f"event: {kind}\ndata: {json.dumps(told)}\n\n"

    begun = {**record, "status": "in_progress", "completed_at": None, "incomplete_details": None}
    begun |= {"output": [], "usage": None}
    at = {"item_id": message["id"], "output_index": 0, "content_index": 0}
    empty = {**part, "text": "", "annotations": []}
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    opened = {**message, "status": "in_progress", "content": []}
    yield event("response.output_item.added", output_index=0, item=opened)
    yield event("response.content_part.added", **at, part=empty)
    yield event("response.output_text.delta", **at, delta=part["text"], logprobs=[])
    for index, annotation in enumerate(part["annotations"]):
        yield event(
            "response.output_text.annotation.added", **at, annotation_index=index, annotation=annotation
        )
    yield event("response.output_text.done", **at, text=part["text"], logprobs=[])
    yield event("response.content_part.done", **at, part=part)
    yield event("response.output_item.done", output_index=0, item=message)
    yield event(f"response.{record['status']}", response=record)
    yield "data: [DONE]\n\n"
