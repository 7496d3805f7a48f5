"""Joins everyday documents and questions with the passages that a search finds: what a reader is trained on.

    python recipes/everyday/join.py TO

Writes TO/train.jsonl, TO/dev.jsonl and, of the questions that no document answers, TO/train.absent.jsonl and
TO/dev.absent.jsonl: question files with passages (`ctxs`), found by words and by meaning. Documents of the
two parts are searched apart.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fidkit.engine.meaning import minilm
from fidkit.evaluate.metrics import has_answer
from fidkit.passages import Corpus
from fidkit.types import Passage

HERE = Path(__file__).parent
FOUND = 24  # passages of a search
BESIDE = 8  # of them are kept


def main() -> None:
    """Reads the command line."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("to", type=Path, help="a folder for the question files")
    to: Path = options.parse_args().to
    to.mkdir(parents=True, exist_ok=True)
    questions = [json.loads(line) for line in (HERE / "questions.jsonl").read_text("utf-8").splitlines()]
    for part in ("train", "dev"):
        mine = [question for question in questions if question["part"] == part]
        rows = [*joined(mine)]
        print(f"{part}: {len(mine) - len(rows)} left out, whose answer no passage holds as a whole")
        for name, answered in ((part, True), (f"{part}.absent", False)):
            some = [row for row in rows if bool(row["answers"]) == answered]
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in some)
            (to / f"{name}.jsonl").write_text("".join(lines), "utf-8")
            print(f"{to / name}.jsonl: {len(some):,} questions")


def joined(questions: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each question with passages of all documents; left out are those whose answer two passages share."""
    with TemporaryDirectory() as place:
        folder = Path(place) / "documents"
        folder.mkdir()
        for name in {question["document"] for question in questions}:
            shutil.copy(HERE / "documents" / name, folder)
        with Corpus.build(folder, Path(place) / "corpus", encoder=minilm, vectors=True) as corpus:
            passages: dict[str, list[Passage]] = {}
            for passage in corpus:
                passages.setdefault(passage.source.rpartition(":")[0], []).append(passage)
            for number, question in enumerate(questions):
                found = [hit.passage for hit in corpus.search(question["question"], k=FOUND)]
                row = _row(number, question, passages[question["document"]], found)
                if row is not None:
                    yield row


def _row(
    number: int, question: dict[str, Any], own: Sequence[Passage], found: Sequence[Passage]
) -> dict[str, Any] | None:
    """None where an answer runs over the end of a passage."""
    answers = question["answers"]
    row = {"id": f"everyday-{question['part']}-{number}", "question": question["question"]}
    row |= {"answers": answers, "doc": question["document"], "dataset": "everyday"}
    ranks = {passage.id: rank for rank, passage in enumerate(found)}
    if not answers:
        near = min(own, key=lambda passage: ranks.get(passage.id, FOUND))
        return row | {"near_ids": [near.id], "ctxs": [*map(_kept, dict.fromkeys([*found[:BESIDE], near]))]}
    holding = [passage for passage in own if answers[0] in passage.text]
    if not holding:
        return None
    gold = min(holding, key=lambda passage: ranks.get(passage.id, FOUND))
    others = [passage for passage in found if not has_answer(answers, passage.text)][:BESIDE]
    ranked = sorted([gold, *others], key=lambda passage: ranks.get(passage.id, FOUND))
    row |= {"target": answers[0], "positive_ids": [gold.id], "positive_kind": "gold"}
    return row | {"ctxs": [*map(_kept, ranked)]}


def _kept(passage: Passage) -> dict[str, str]:
    return {"id": passage.id, "title": passage.title, "text": passage.text}


if __name__ == "__main__":
    main()
