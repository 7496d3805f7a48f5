"""The questions that the bundled readers' confidence is fitted on: every second one of some development sets.

    python recipes/fitting.py DATA FIT
    fidkit calibrate READER --corpus wiki.corpus --data FIT/everyday.jsonl --data FIT/absent.jsonl \
        --data FIT/squad.jsonl --data FIT/newwiki.jsonl --data FIT/qamr.jsonl --data FIT/unanswerable.jsonl \
        --data FIT/nq.jsonl --data FIT/triviaqa.jsonl --data FIT/webq.jsonl \
        --context retrieved --context gold --context retrieved --context foreign \
        --passages 10 --passages 3 --passages 5 --passages 20 --passages 1

Some 40 percent are about everyday documents, some of which nothing answers: a mix like use.
"""

from __future__ import annotations

import argparse
import gzip
from itertools import islice
from pathlib import Path

QUESTIONS = {
    "everyday": ("everyday/dev.jsonl", 300),
    "absent": ("everyday/dev.absent.jsonl", 78),
    "squad": ("qa/dev.squad.jsonl.gz", 130),
    "newwiki": ("qa/dev.newwiki.jsonl.gz", 130),
    "qamr": ("qa/dev.qamr.jsonl.gz", 60),
    "unanswerable": ("qa/dev.unanswerable.jsonl.gz", 90),
    "nq": ("qa/dev.nq.jsonl.gz", 80),
    "triviaqa": ("qa/dev.triviaqa.jsonl.gz", 80),
    "webq": ("qa/dev.webq.jsonl.gz", 60),
}
"""By name: the file in DATA, and how many of every second question in it."""


def main() -> None:
    """Reads the command line."""
    options = argparse.ArgumentParser(description="Choose questions to fit confidence on.")
    options.add_argument("data", type=Path, help="qa, and in everyday what recipes/everyday/join.py wrote")
    options.add_argument("to", type=Path, help="a folder for the question files")
    given = options.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    for name, (file, count) in QUESTIONS.items():
        opened = gzip.open if file.endswith(".gz") else open
        with opened(given.data / file, "rt", encoding="utf-8") as lines:
            some = list(islice(lines, 0, 2 * count, 2))
        (given.to / f"{name}.jsonl").write_text("".join(some), encoding="utf-8")
        print(f"{name}: {len(some)} questions")


if __name__ == "__main__":
    main()
