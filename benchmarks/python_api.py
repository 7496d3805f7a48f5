"""README's Python example beside the command line: the same questions, interleaved, in one process.

python benchmarks/python_api.py [--questions 100]

Both answer from the bundled documents. Of the command line, what its JSON says an answer took is counted, as
it opens documents and reader for each question anew; of Python, what passes by the clock.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import time
from contextlib import redirect_stderr, redirect_stdout
from statistics import median

from fidkit import Answerer
from fidkit.cli.app import run

SUBJECTS = ("the catalogue", "a codec", "FiDO", "LUMEN", "a recipe", "the memory", "a shard",
            "evidence", "a preset", "the runner")  # fmt: skip
FORMS = ("What is {}?", "Where is {} kept?", "What does {} change?", "How large is {}?",
         "Why is there {}?", "What holds {}?", "Who reads {}?", "When is {} built?", "What is {} made of?",
         "How fast is {}?")  # fmt: skip


def by_command(question: str) -> tuple[float, str]:
    """Milliseconds of an answer, and its text."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        code = run(["ask", question, "--json"])
    assert code == 0
    record = json.loads(out.getvalue())
    return record["timings_ms"]["total"], record["guess"] or ""


def main() -> None:
    """Print the median of both, and how often the answers agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=100)
    n = parser.parse_args().questions
    questions = [form.format(subject) for subject, form in itertools.product(SUBJECTS, FORMS)][:n]
    ours: list[float] = []
    theirs: list[float] = []
    equal = 0
    with Answerer.open(reader="pocket") as qa:
        for warm in questions[:2]:
            qa.answer(warm, k=20)
        for question in questions:
            start = time.perf_counter()
            answer = qa.answer(question, k=20)
            ours.append(1000 * (time.perf_counter() - start))
            ms, text = by_command(question)
            theirs.append(ms)
            equal += text == answer.guess
    print(f"python   {median(ours):8.1f} ms an answer (median of {n}), {sum(ours) / n:.1f} mean")
    print(f"command  {median(theirs):8.1f} ms an answer (median of {n}), {sum(theirs) / n:.1f} mean")
    print(f"equal answers: {equal} of {n}")


if __name__ == "__main__":
    main()
