"""What all subjects read: the same questions and passages, as tokens."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fidkit.config import ReaderConfig
from fidkit.cost import Workload
from fidkit.errors import DataError

if TYPE_CHECKING:
    from fidkit.passages import Passages
    from fidkit.types import Passage

Tokens = list[int]
SYNTHETIC = "synthetic"
FIRST_WORD = 2
"""Ids below are control tokens: padding and the end of sequence."""


@dataclass(frozen=True)
class Questions:
    """B questions with N passages each.

    Attributes:
        questions: tokens of each question.
        passages: tokens of each passage of each question.
        source: where they come from.
    """

    questions: Sequence[Tokens]
    passages: Sequence[Sequence[Tokens]]
    source: str = SYNTHETIC

    @classmethod
    def of_shapes(cls, shapes: Mapping[str, Any]) -> Questions:
        """Of the lengths in a row's `shapes`; the tokens are all the same one."""
        count, each = shapes["questions"], shapes["passages"]
        questions = _all(shapes["question_tokens"], count)
        passages = _all(shapes["passage_tokens"], count * each)
        return cls(
            [[FIRST_WORD] * length for length in questions],
            [[[FIRST_WORD] * n for n in passages[i * each : (i + 1) * each]] for i in range(count)],
            shapes["source"],
        )

    @property
    def rows(self) -> list[Tokens]:
        """Each passage with its question in front, questions one after the other [B * N]."""
        return [
            question + passage
            for question, passages in zip(self.questions, self.passages, strict=True)
            for passage in passages
        ]

    def workload(self, output_tokens: int) -> Workload:
        """What the cost model takes for it.

        Questions of different lengths become a mean one: its longest passage is the mean of the questions'
        longest, and so on.
        """
        ranked = zip(*(sorted(map(len, of_one)) for of_one in self.passages), strict=True)
        lengths = tuple(_mean(of_rank) for of_rank in ranked)
        return Workload(
            questions=len(self.questions),
            passages=len(lengths),
            passage_tokens=lengths[0] if len(set(lengths)) == 1 else lengths,
            question_tokens=_mean([len(question) for question in self.questions]),
            output_tokens=output_tokens,
        )

    def shapes(self, output_tokens: int) -> dict[str, Any]:
        """Sizes for a row: lists where lengths differ, in the order they are read."""
        rows = [len(row) for row in self.rows]
        return {
            "questions": len(self.questions),
            "passages": len(self.passages[0]),
            "question_tokens": _one_or_all([len(question) for question in self.questions]),
            "passage_tokens": _one_or_all([len(p) for of_one in self.passages for p in of_one]),
            "row_tokens": sum(rows),
            "padded_tokens": len(rows) * max(rows),
            "output_tokens": output_tokens,
            "source": self.source,
        }


def synthetic(workload: Workload, vocabulary: int, seed: int = 0) -> Questions:
    """Random tokens below `vocabulary`, in the lengths of a workload."""
    generator = random.Random(seed)

    def draw(length: int) -> Tokens:
        return [generator.randrange(FIRST_WORD, vocabulary) for _ in range(length)]

    return Questions(
        [draw(workload.question_tokens) for _ in range(workload.questions)],
        [[draw(length) for length in workload.lengths] for _ in range(workload.questions)],
    )


def retrieved(
    corpus: Passages, questions: Path, config: ReaderConfig, count: int, passages: int
) -> Questions:
    """Real questions with what a corpus has for them, in the bundled vocabulary.

    Args:
        corpus: passages that are searched.
        questions: FiD JSON or JSONL; the first `count` for which enough is found are taken.
        config: whose formats and limits of tokens hold.
        count: B.
        passages: N.

    Raises:
        DataError: questions that can't be read, or too few for which `passages` passages are found.
    """
    from fidkit.tokens import Tokenizer

    enough = list(itertools.islice(_answerable(corpus, questions, passages), count))
    if len(enough) < count:
        raise DataError(
            f"{questions}: {len(enough)} of its questions find {passages} passages in {corpus.derived}, "
            f"expected {count}; take fewer passages, a smaller batch or a larger corpus"
        )
    tokenizer = Tokenizer.bundled(config)
    return Questions(
        [tokenizer.question(text).ids for text, _ in enough],
        [tokenizer.passages(found) for _, found in enough],
        source="corpus",
    )


def _answerable(corpus: Passages, questions: Path, passages: int) -> Iterator[tuple[str, list[Passage]]]:
    """Questions for which so many passages are found, and these."""
    from fidkit.questions.files import read_questions

    for question in read_questions(questions):
        hits = corpus.search(question.question, passages)
        if len(hits) == passages:
            yield question.question, [hit.passage for hit in hits]


def _mean(numbers: Sequence[int]) -> int:
    return round(sum(numbers) / len(numbers))


def _all(lengths: int | list[int], count: int) -> list[int]:
    return lengths if isinstance(lengths, list) else [lengths] * count


def _one_or_all(lengths: list[int]) -> int | list[int]:
    return lengths[0] if len(set(lengths)) == 1 else lengths
