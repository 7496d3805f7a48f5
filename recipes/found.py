"""Finds passages for training questions by words and by meaning: what a task's `retrieved` names.

    fidkit corpus build DATA/corpus --vectors --to wiki.corpus
    python recipes/found.py wiki.corpus DATA/qa/train.jsonl.gz --to DATA/both/train.jsonl

Who searches by both meets passages that mean nearly what was asked, and a reader that was trained on what
words find takes them for answers. Questions that name no passage (closed-book ones) are left out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fidkit.engine.meaning import minilm
from fidkit.passages import Corpus
from fidkit.questions.files import read_questions

FOUND = 30  # passages a question


def main() -> None:
    """Reads the command line."""
    options = argparse.ArgumentParser(description="Find passages for training questions.")
    options.add_argument("corpus", type=Path, help="a built corpus with vectors")
    options.add_argument("questions", type=Path, nargs="+", help="JSONL of training questions")
    options.add_argument("--to", type=Path, required=True, help="JSONL of ranked passages")
    given = options.parse_args()
    given.to.parent.mkdir(parents=True, exist_ok=True)
    with Corpus.open(given.corpus, minilm) as corpus, given.to.open("w", encoding="utf-8") as file:
        for path in given.questions:
            for question in read_questions(path):
                if not question.positive_ids and not question.near_ids:
                    continue
                hits = corpus.search(question.question, FOUND, "both")
                row = {"id": question.id, "ctx_ids": [hit.passage.id for hit in hits]}
                file.write(json.dumps(row) + "\n")
    print(given.to)


if __name__ == "__main__":
    main()
