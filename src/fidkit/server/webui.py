"""What Open WebUI asks beside questions, and how it wraps those: titles, tags, searches, attached documents.

It asks the model that somebody chats with, in messages of a user that are instructions for a language model.
Here they are answered as it takes them, without a reader. The requests are those of its source of November
2026; an administrator may word them anew, and such ones are questions to this server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

_TASK = "### Task:"
# The first key in the instructions says what is asked for; the chat stands behind them and may say anything.
_KEY = re.compile(r'"(title|tags|follow_ups|queries|prompt|text)"\s*:')
_FIRST_ASKED = re.compile(r"^USER: (.+)$", re.MULTILINE)
_TITLE_CHARACTERS = 60
_EMOJI = "Your task is to reflect the speaker's likely facial expression"
_TOOLS, _TOOLS_ASKED = "Available Tools:", ("History:", "Query:")
_MERGE = 'You have been provided with a set of responses from various models to the latest user query: "'
_MERGED = '"\n\nYour task'


def task_done(messages: Sequence[tuple[str, str]]) -> str | None:
    """What a task is answered with; None where the messages ask a question.

    A title is the first question. There are no tags, no further questions, no searches to do, no tools to
    call, nothing to go on with and no emoji.

    Args:
        messages: (role, text) of each.
    """
    text = next((text for role, text in reversed(messages) if role == "user"), "")
    if text.startswith(_EMOJI):
        return ""
    told = [text for role, text in messages if role == "system"]
    if text.startswith(_TOOLS_ASKED) and any(one.startswith(_TOOLS) for one in told):
        return json.dumps({"tool_calls": []})
    key = _KEY.search(text)
    if not text.startswith(_TASK) or key is None or _behind_documents(text) is not None:
        return None
    first = _FIRST_ASKED.search(text)
    asked = first.group(1)[:_TITLE_CHARACTERS] if first else "Documents"
    nothing = {"title": asked, "prompt": asked, "text": ""}
    return json.dumps({key[1]: nothing.get(key[1], [])})


def question_in(text: str) -> str:
    """What a person asked, of a message that Open WebUI may have put documents or answers around."""
    if text.startswith(_MERGE):
        return text.removeprefix(_MERGE).partition(_MERGED)[0]
    behind = _behind_documents(text)
    if behind is None:
        return text
    query = behind.partition("<user_query>")[2].partition("</user_query>")[0]
    return query.strip() or behind.strip()


def _behind_documents(text: str) -> str | None:
    """What stands behind documents that are attached to a message; None where none are.

    Their last mark counts: they may hold such marks themselves.
    """
    if not text.startswith(_TASK) or "<context>" not in text:
        return None
    _, mark, behind = text.rpartition("</context>")
    return behind if mark else None
