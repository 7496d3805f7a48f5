"""What clients of OpenAI's API speak: `/v1/models` and `/v1/chat/completions`.

The last thing that the user said is the question; there is no conversation, and what else a request carries
for language models (temperature, tools, a system's message) has no meaning here.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from fidkit.engine.asked import is_blank
from fidkit.engine.generation.decoding import Decoding
from fidkit.server.asking import questions, while_there
from fidkit.server.cited import WITH_SOURCES, Cited, cited, question_of
from fidkit.server.errors import RequestError
from fidkit.server.routes.answering import REFUSALS, STREAMED
from fidkit.server.schemas import Said
from fidkit.server.service import PASSAGES, Question, Service
from fidkit.server.webui import question_in, task_done
from fidkit.types import Answer

_LOOSE = ConfigDict(extra="allow", json_schema_extra={"examples": []})
_OF_TEXT = ("text", "input_text", "output_text")
_STARTED = int(time.time())


class Part(BaseModel):
    """A part of a message; parts that aren't text are refused."""

    model_config = ConfigDict(extra="allow")
    type: str
    text: Said | None = None


class Message(BaseModel):
    """A message."""

    model_config = ConfigDict(extra="allow")
    role: str
    content: Said | list[Part] | None = None


class StreamOptions(BaseModel):
    """What else a stream has."""

    model_config = ConfigDict(extra="allow", strict=True)
    include_usage: bool | None = False


class ChatRequest(BaseModel):
    """A request as OpenAI's clients write it."""

    model_config = ConfigDict(
        extra="allow",
        strict=True,
        json_schema_extra={
            "examples": [{"model": "pocket", "messages": [{"role": "user", "content": "who wrote it?"}]}]
        },
    )
    model: Said = Field("", description="A reader; with `:sources` behind it sources are listed in the text.")
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None


class Model(BaseModel):
    """A reader as a model."""

    id: str
    object: str = "model"
    created: int = _STARTED
    owned_by: str = "fidkit"


class Models(BaseModel):
    """All readers, each also with sources in its text."""

    object: str = "list"
    data: list[Model]


def router(service: Service) -> APIRouter:
    """Of a service."""
    made = APIRouter(prefix="/v1", tags=["OpenAI"], responses=REFUSALS)

    @made.get("/models", summary="The readers, as models")
    async def models() -> Models:
        return Models(data=[Model(id=name) for name in _names(service)])

    @made.get("/models/{name}", summary="A reader, as a model")
    async def model(name: str) -> Model:
        chosen(service, name)
        return Model(id=name)

    @made.post("/chat/completions", response_model=None, summary="Answer as a chat", responses=STREAMED)
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Answer the last message of the user."""
        reader, sources = chosen(service, body.model)
        refuse_tools_and_formats(body.tool_choice, body.response_format, "response_format")
        messages = [(m.role, text_of(m.content, "messages")) for m in body.messages]
        text = question_in(question_of(messages))
        name = f"chatcmpl-{uuid.uuid4().hex}"
        head = {"id": name, "created": int(time.time()), "model": body.model or reader}
        if (done := task_done(messages)) is not None:
            return _chat(body, head, Cited(done, ()), None, {})
        most = body.max_completion_tokens or body.max_tokens
        asked = asking(service, text, reader, most, "messages")
        [answer] = await while_there(request, service.answer([asked]))
        said = cited(answer, base_of(request), sources=sources)
        return _chat(body, head, said, answer, extra(answer, text, reader))

    return made


def chosen(service: Service, model: str) -> tuple[str, bool]:
    """The reader that a model's name means, and whether sources are listed.

    Raises:
        RequestError: there is no such model.
    """
    name, sources = model.removesuffix(WITH_SOURCES), model.endswith(WITH_SOURCES)
    if name and name not in service.readers:
        there = ", ".join(_names(service))
        raise RequestError(404, f"no model {model!r} is served here; expected one of {there}", "model")
    return name or service.readers[0], sources


def asking(service: Service, text: str, reader: str, most: int | None, param: str) -> Question:
    """The question that a protocol's request asks.

    Raises:
        RequestError: there is none, or it is beyond a limit.
    """
    if is_blank(text):
        raise RequestError(422, f"{param}: no text of a user in it; expected a question", param)
    [question] = questions(text, service.limits)
    # Clients ask for room for a conversation; an answer is never so long.
    how = Decoding() if most is None else Decoding(max_tokens=min(most, service.limits.answer_tokens))
    return Question(question, reader, min(PASSAGES, service.limits.passages), decoding=how)


def text_of(content: str | list[Part] | None, param: str) -> str:
    """The text of a message.

    Raises:
        RequestError: it has parts of another kind.
    """
    if content is None or isinstance(content, str):
        return content or ""
    for part in content:
        if part.text is None and part.type in _OF_TEXT:
            raise RequestError(422, f"{param}: a part of type {part.type!r} without a text; add it", param)
        if part.text is None:
            raise RequestError(422, f"{param}: a part of type {part.type!r}; only text is read", param)
    return "\n".join(part.text or "" for part in content)


def refuse_tools_and_formats(
    tool_choice: str | dict[str, Any] | None, form: Mapping[str, Any] | None, param: str
) -> None:
    """Refuse what a caller counts on and a reader can't do: other tools and formats may be there, unused.

    Raises:
        RequestError: a tool has to be called, or the answer has to be of another form than text.
    """
    wanted, mode = tool_choice, None
    if isinstance(tool_choice, dict):
        wanted, mode = tool_choice.get("type"), tool_choice.get("mode", "auto")
    if wanted not in (None, "none", "auto") and (wanted, mode) != ("allowed_tools", "auto"):
        raise RequestError(
            422, f"tool_choice: {str(wanted)[:40]!r}; no tools are called here, leave it out", "tool_choice"
        )
    kind = (form or {}).get("type") or "text"
    if kind != "text":
        raise RequestError(422, f"{param}: {str(kind)[:40]!r}; answers are text, leave it out", param)


def base_of(request: Request) -> str:
    """The URL by which this server was called."""
    return str(request.base_url).rstrip("/")


def usage_of(answer: Answer | None) -> tuple[int, int]:
    """Words read and written: tokens of a vocabulary that a caller doesn't know would tell nothing."""
    if answer is None:
        return 0, 0
    read = sum(len(e.passage.text.split()) for e in answer.evidence)
    return read, len(answer.guess.split())


def extra(answer: Answer, question: str, reader: str) -> dict[str, Any]:
    """Our own fields beside a protocol's."""
    record = answer.to_json(question, reader)
    kept = ("evidence", "confidence", "guess", "verbatim", "notes")
    timings = record["timings_ms"]
    times = {"queue_time_ms": timings["queue"], "generation_time_ms": timings["decode"], "stages_ms": timings}
    return {**{name: record[name] for name in kept}, "metrics": times}


def _names(service: Service) -> Iterator[str]:
    for name in service.readers:
        yield name
        yield name + WITH_SOURCES


def _annotations(said: Cited) -> list[dict[str, Any]]:
    return [{"type": "url_citation", "url_citation": citation} for citation in said.citations]


def _chat(
    body: ChatRequest, head: dict[str, Any], said: Cited, answer: Answer | None, more: dict[str, Any]
) -> Response:
    read, written = usage_of(answer)
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    finish = "length" if answer is not None and answer.cut else "stop"
    if body.stream:
        with_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        chunks = _chunks(head, said, finish, usage if with_usage else None, more)
        return StreamingResponse(chunks, media_type="text/event-stream")
    message = {"role": "assistant", "content": said.text, "refusal": None, "annotations": _annotations(said)}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    record = {**head, "object": "chat.completion", "choices": [choice], "usage": usage, **more}
    return Response(json.dumps(record), media_type="application/json")


def _chunks(
    head: dict[str, Any], said: Cited, finish: str, usage: dict[str, int] | None, more: dict[str, Any]
) -> Iterator[str]:
    """The chunks of an answer that is whole.

    A piece of a passage may yet become another while it is written, and this protocol takes nothing back.
    """

    def chunk(delta: dict[str, Any] | None, reason: str | None = None, **others: object) -> str:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": reason}]
        record = {**head, "object": "chat.completion.chunk", "choices": choices, **others}
        return f"data: {json.dumps(record)}\n\n"

    yield chunk({"role": "assistant", "content": ""})
    yield chunk({"content": said.text})
    if said.citations:
        yield chunk({"annotations": _annotations(said)})
    yield chunk({}, finish, **more)
    if usage is not None:
        yield chunk(None, usage=usage)
    yield "data: [DONE]\n\n"
