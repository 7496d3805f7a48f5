"""What the adapters share: passages and answers as records, and what is said where a package is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fidkit.answerer import Answerer
from fidkit.engine.locating import placed
from fidkit.passages.filter import Filter
from fidkit.passages.places import split
from fidkit.passages.protocol import Passages
from fidkit.types import Answer, Evidence, Hit, Passage
from fidkit.wording import SILENT


def lacking(error: ModuleNotFoundError, extra: str) -> ModuleNotFoundError:
    """The error of an adapter whose framework isn't installed.

    Args:
        error: what the import said.
        extra: of fidkit, that brings the framework.
    """
    return ModuleNotFoundError(
        f"fidkit.adapters.{extra} needs {error.name}, which is not installed; get it with: "
        f"pip install 'fidkit[{extra}]'",
        name=error.name,
    )


def answered(
    answerer: Answerer,
    question: str,
    given: Sequence[Passage] | None,
    k: int,
    where: Sequence[str],
    test_evidence: int,
) -> Answer:
    """An answer from passages that were given, or else from those that are found.

    Raises:
        UsageError: as `Answerer.answer` does, or a condition on documents that is none.
        CorpusError: no document is left by `where`.
    """
    if given is None:
        return answerer.answer(question, k, where=Filter.parse(where), test_evidence=test_evidence)
    answer = answerer.read(question, given, test_evidence=test_evidence)
    # Mostly they were found in the same corpus, which knows where they stand; of others it says nothing.
    return answer if answerer.corpus is None else placed(answer, answerer.corpus)


def of_hit(hit: Hit, corpus: Passages) -> dict[str, Any]:
    """A passage that a search found, without its text.

    Returns:
        `id`, `title`, `source` (what `Corpus.place` and the server take), `document` and `characters` (both
        parts of it; null where it has none), `where` (by kind of place: `{"page": "3"}`), `score`.
    """
    return _of_passage(hit.passage, hit.score) | {"where": corpus.place(hit.passage.source).labels()}


def of_evidence(evidence: Evidence) -> dict[str, Any]:
    """A passage that was read for an answer, without its text.

    Returns:
        What `of_hit` gives, where `score` is the share of the answer, and `where` is the answer's place if
        the passage has it; `span` (characters of the answer in the document), `sentence`, `boxes` and
        `without` as the server's API has them.
    """
    told = evidence.to_json()
    more = {name: told[name] for name in ("where", "span", "sentence", "boxes", "without")}
    return _of_passage(evidence.passage, evidence.score) | more


def of_answer(answer: Answer) -> dict[str, Any]:
    """An answer without its evidence; `answer` is null where it was withheld."""
    told = answer.to_json("", "")
    return {name: value for name, value in told.items() if name not in ("question", "reader", "evidence")}


def in_words(answer: Answer) -> str:
    """The text to show: the answer, or that the documents don't seem to say."""
    return answer.text or SILENT


def passage_of(number: int, text: str | None, about: dict[str, Any], id_: str | None = None) -> Passage:
    """A passage of a document that somebody else found.

    Args:
        number: which of them, for one without a name.
        text: of it.
        about: its metadata, from which `title` and `source` are taken.
        id_: what it is known by.
    """
    title, source = (str(about.get(name) or "") for name in ("title", "source"))
    return Passage(id_ or str(about.get("id") or number), title, text or "", source)


def _of_passage(passage: Passage, score: float) -> dict[str, Any]:
    name, characters = split(passage.source)
    return {
        "id": passage.id,
        "title": passage.title,
        "source": passage.source,
        "document": name or None,
        "characters": None if characters is None else list(characters),
        "score": score,
    }
