"""What requests and responses look like. Their descriptions are the API's documentation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from fidkit.server.service import PASSAGES

_STRICT = ConfigDict(extra="forbid", strict=True)


def _whole(text: str) -> str:
    """Refuse half characters, which JSON can write and nothing can be made of."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("halves of characters (lone surrogates) in it; expected text") from None
    return text


Said = Annotated[str, AfterValidator(_whole)]
"""What a caller writes; it may be empty."""
Text = Annotated[str, Field(min_length=1), AfterValidator(_whole)]


class GivenPassage(BaseModel):
    """A passage of the caller's own."""

    model_config = _STRICT
    id: Said = Field("", description="Given back with evidence; its number where it is empty.")
    title: Said = ""
    text: Text


class AnswerRequest(BaseModel):
    """Questions to be answered: from the documents that are served, or from passages of the caller's own."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"question": "who wrote it?", "passages": 20}]},
    )
    question: Text | list[Text] = Field(description="One, or several.")
    passages: int | list[GivenPassage] = Field(
        PASSAGES,
        description="How many are read, at most; or the passages to read, which nothing is searched for.",
    )
    where: list[Said] = Field([], description="Conditions on documents, as `fidkit ask --where` takes them.")
    reader: Said = Field("", description="By name; the first that is served where it is empty.")
    test_evidence: int = Field(
        0, ge=0, description="For so many passages, what the answer would be without each."
    )
    max_tokens: int = Field(32, ge=1, description="Length of an answer, at most.")
    stream: bool = Field(
        False,
        description="Server-sent events: `passages` that are read, `text` so far, then `answer`. For one "
        "question.",
    )


class SearchRequest(BaseModel):
    """Passages are looked for."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"question": "who wrote it?", "passages": 5}]},
    )
    question: Text | list[Text] = Field(description="One, or several.")
    passages: int = Field(10, ge=1, description="How many of each, at most.")
    where: list[Said] = Field([], description="Conditions on documents, as `fidkit ask --where` takes them.")


class Without(BaseModel):
    """What would be, had a passage not been found."""

    answer: str
    score: float = Field(description="Mean log-probability of the answer that was given, then.")


class Box(BaseModel):
    """A line of the answer on its page: edges in points from the page's upper left corner."""

    page: int = Field(description="Counted from 1.")
    left: float
    top: float
    right: float
    bottom: float


class Evidence(BaseModel):
    """A passage that was read."""

    id: str
    title: str
    text: str
    score: float = Field(description="Its share of the answer; all sum to 1.")
    source: str = Field(description="The document, and the passage's characters there: `notes/a.md:120-734`.")
    span: tuple[int, int] | None = Field(description="Characters of the answer in the document.")
    sentence: str = Field(description="Around the answer; empty where the passage doesn't have it.")
    without: Without | None = Field(description="Where it was tested.")
    where: dict[str, str] = Field(description="Page, slide, sheet, row, chapter, heading, part.")
    boxes: list[Box]


class Alternative(BaseModel):
    """Another answer."""

    answer: str
    score: float


class Answer(BaseModel):
    """An answer with what it rests on."""

    question: str
    answer: str | None = Field(description="Null where the documents don't seem to say.")
    guess: str | None = Field(description="What it would be, withheld or not.")
    confidence: float = Field(description="Probability that the guess is right.")
    score: float
    verbatim: bool = Field(description="The answer stands in a passage.")
    evidence: list[Evidence]
    timings_ms: dict[str, float]
    reader: str
    notes: list[str]
    alternatives: list[Alternative] = []


class Answers(BaseModel):
    """Answers to several questions, in their order."""

    answers: list[Answer]


class Found(BaseModel):
    """A passage that a search found."""

    id: str
    title: str
    text: str
    score: float
    source: str


class Hits(BaseModel):
    """The passages found for one question, best first."""

    question: str
    hits: list[Found]


class HitsOfAll(BaseModel):
    """Those of several questions, in their order."""

    results: list[Hits]


class Reader(BaseModel):
    """A reader that is served."""

    name: str
    default: bool
    calibrated: bool = Field(
        description="Whether its confidence is a probability, by which it may be silent."
    )


class Readers(BaseModel):
    """All that are served."""

    readers: list[Reader]


class CorpusState(BaseModel):
    """The documents that are served."""

    name: str
    documents: int
    files: int = Field(description="That passages were cut from.")
    passages: int
    generation: int
    kinds: dict[str, dict[str, int]]
    left_out: list[tuple[str, str]] = Field(
        description="Files that nothing can be found in, and why: they were not read, or hold no text."
    )
    notes: list[str]


class Served(BaseModel):
    """A file that is served."""

    name: str
    size: int = Field(description="Bytes.")
    passages: int
    status: Literal["indexed", "left out"]
    reason: str = Field(description="Why it was left out, or what of it was.")


class AddedFile(BaseModel):
    """A file that a caller added."""

    model_config = ConfigDict(from_attributes=True)
    name: str
    size: int = Field(description="Bytes.")
    status: Literal["waiting", "indexed", "left out"]
    reason: str = Field(description="Why it was left out, or what of it was.")


class Documents(BaseModel):
    """What is served, and what was added."""

    total: int = Field(description="Files that are served.")
    documents: list[Served] = Field(description="Those that were asked for, by name.")
    added: list[AddedFile]
    can_add: bool


class Refused(BaseModel):
    """A file that was not taken."""

    name: str
    reason: str
    code: str = Field(description="As the error of a request with this file alone has it.")


class Taken(BaseModel):
    """What was taken, to be done in the background."""

    names: list[str]
    refused: list[Refused] = Field([], description="Files that were not taken, and why.")
    message: str


class Shown(BaseModel):
    """Characters of a document in their surroundings."""

    source: str
    title: str
    facts: dict[str, str]
    notes: list[str]
    span: tuple[int, int]
    before: str
    text: str
    after: str
    where: dict[str, str]
    boxes: list[Box]


class Health(BaseModel):
    """Whether the server runs."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """Whether it answers."""

    status: Literal["ready", "stuck"]
    waiting: int
    running: int


class Problem(BaseModel):
    """What went wrong."""

    message: str = Field(description="What was given, what was expected, what to do next.")
    type: str
    code: str
    param: str | None = None
    values: dict[str, int | str] = Field(
        {}, description="Numbers and names of the message, where it has some."
    )
    refused: list[Refused] = Field([], description="Files, where none of several was taken, and why.")


class Error(BaseModel):
    """An error, in the shape that clients of OpenAI's API know."""

    error: Problem
