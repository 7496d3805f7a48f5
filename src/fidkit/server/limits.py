"""What a server takes of one request, and of all of them together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a server. What a caller exceeds is named in the error, with the limit.

    Attributes:
        body_bytes: of a request that is no upload.
        upload_bytes: of an upload, all its files together.
        questions: of one request.
        question_characters: of a question.
        passages: that are read for a question, at most.
        passage_characters: of one passage that a caller gives.
        tests: passages that are left out in turn, to test an answer.
        answer_tokens: that an answer may have.
        waiting: questions that wait at once, of all callers.
        seconds: that a question may take, from its arrival to its answer.
        quiet_seconds: that a client may take to send the next piece of its request, or to take the next of
            its answer.
        listening_seconds: that one response tells how indexing goes; browsers ask again by themselves. A
            server that is asked to end waits for responses under way, and for this one no longer than so.
        ending_seconds: that answers under way have left once the server is asked to end.
    """

    body_bytes: int = 2_000_000
    upload_bytes: int = 100_000_000
    questions: int = 64
    question_characters: int = 2_000
    passages: int = 100
    passage_characters: int = 20_000
    tests: int = 20
    answer_tokens: int = 256
    waiting: int = 256
    seconds: float = 60.0
    quiet_seconds: float = 20.0
    listening_seconds: float = 20.0
    ending_seconds: float = 10.0
