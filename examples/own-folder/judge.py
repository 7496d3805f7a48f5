"""Asks a reader all questions about the folder, and says how many it got right.

    python examples/own-folder/judge.py [FOLDER] [--reader pocket] [--passages 10] [--json]

FOLDER holds `documents/` and `questions.jsonl` laid out as those beside this file, which are the default.
With `--json`, one object is printed, each answer included.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fidkit import Answerer
from fidkit.checkpoint import locate
from fidkit.evaluate.metrics import exact_match, has_answer, is_loop
from fidkit.types import Passage

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Judged:
    """An answer with what is to be said about it.

    Attributes:
        expected: all accepted answers; none where the documents don't say.
        said: the reader's answer; empty when it says that the documents don't say.
        confidence: the reader's own, where it has one.
        right: equal to an accepted answer after SQuAD's normalisation.
        contained: an accepted answer stands in what was said.
        found: an accepted answer stands in a passage that was read, of whatever document.
        loop: see `fidkit.evaluate.metrics.is_loop`.
    """

    id: str
    question: str
    document: str | None
    expected: list[str]
    said: str
    confidence: float | None
    right: bool
    contained: bool
    found: bool
    loop: bool
    seconds: float

    @property
    def absent(self) -> bool:
        """No document says it."""
        return not self.expected

    @property
    def silent(self) -> bool:
        """The reader says nothing."""
        return not self.said

    @property
    def good(self) -> bool:
        """As it should be: right, or nothing said where there is nothing to say."""
        return self.silent if self.absent else self.right


def questions_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of `questions.jsonl` in `folder`."""
    lines = (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def judge(
    asked: dict[str, Any],
    text: str,
    passages: Iterable[Passage],
    seconds: float,
    confidence: float | None = None,
) -> Judged:
    """Compare an answer with a row of `questions.jsonl`.

    Args:
        asked: the row.
        text: the answer; empty where the reader says that the documents don't say.
        passages: all that were read for it.
        seconds: what it took.
        confidence: the reader's own, where it has one.
    """
    expected, said = asked["answers"], " ".join(text.split())
    right = bool(said) and exact_match(said, expected)
    return Judged(
        id=asked["id"],
        question=asked["question"],
        document=asked["document"] or asked.get("near"),
        expected=expected,
        said=said,
        confidence=confidence,
        right=right,
        contained=right or has_answer(expected, said),
        found=any(has_answer(expected, passage.text) for passage in passages),
        loop=is_loop(said),
        seconds=seconds,
    )


def answered(qa: Answerer, questions: Iterable[dict[str, Any]], k: int) -> Iterator[Judged]:
    """One question after the other, as a person asks them."""
    for asked in questions:
        start = time.perf_counter()
        answer = qa.answer(asked["question"], k=k)
        seconds = time.perf_counter() - start
        passages = [evidence.passage for evidence in answer.evidence]
        yield judge(asked, answer.text, passages, seconds, answer.confidence)


def summary(judged: list[Judged]) -> dict[str, Any]:
    """Counts over all answers, and the mean time of one."""
    answerable = [one for one in judged if not one.absent]
    absent = [one for one in judged if one.absent]
    return {
        "questions": len(judged),
        "answerable": len(answerable),
        "absent": len(absent),
        "right": sum(one.right for one in answerable),
        "contained": sum(one.contained for one in answerable),
        "found": sum(one.found for one in answerable),
        "withheld": sum(one.silent for one in answerable),
        "absences_said": sum(one.silent for one in absent),
        "loops": sum(one.loop for one in judged),
        "seconds_per_question": sum(one.seconds for one in judged) / len(judged),
    }


def megabytes(reader: str) -> float:
    """Of the files of a reader."""
    return sum(path.stat().st_size for path in locate(reader).iterdir() if path.is_file()) / 1e6


def show(record: dict[str, Any], judged: list[Judged]) -> None:
    """Print the counts, then what went wrong."""
    answerable, absent, questions = (f"of {record[key]}" for key in ("answerable", "absent", "questions"))
    print(f"{record['reader']}, {record['megabytes']:.1f} MB, {record['passages']} passages a question")
    print(f"right exactly             {record['right']:4} {answerable}")
    print(f"answer contained          {record['contained']:4} {answerable}")
    print(f"answer in passages read   {record['found']:4} {answerable}")
    print(f"withheld though it's said {record['withheld']:4} {answerable}")
    print(f"absences said             {record['absences_said']:4} {absent}")
    print(f"loops                     {record['loops']:4} {questions}")
    print(f"seconds per question      {record['seconds_per_question']:.3f}")
    for one in judged:
        if not one.good:
            sure = "" if one.confidence is None else f" ({one.confidence:.2f})"
            where = f"{one.expected[0]}  [{one.document}]" if one.expected else "nothing, as no document says"
            unread = "" if one.absent or one.found else ", not in the passages read"
            print(f"\n{one.id}  {one.question}")
            print(f"  said      {one.said or '(nothing)'}{sure}")
            print(f"  expected  {where}{unread}")


def main() -> None:
    """Ask, judge, print."""
    parser = argparse.ArgumentParser(description="Judge a reader by questions about a folder of documents.")
    parser.add_argument("folder", type=Path, nargs="?", default=HERE, help="documents/ and questions.jsonl")
    parser.add_argument("--reader", default="pocket", help="directory, bundled name, or hub name")
    parser.add_argument("--passages", type=int, default=10, help="how many passages to read, at most")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    questions = questions_of(options.folder)
    with Answerer.open(options.folder / "documents", reader=options.reader) as qa:
        qa.answer(questions[0]["question"], k=options.passages)  # what is done once is no part of the times
        judged = list(answered(qa, questions, options.passages))
    record = {
        "reader": options.reader,
        "megabytes": megabytes(options.reader),
        "passages": options.passages,
        **summary(judged),
    }
    if options.json:
        print(json.dumps({**record, "answers": [asdict(one) for one in judged]}))
    else:
        show(record, judged)


if __name__ == "__main__":
    main()
