"""Questions a second: many questions one by one, at once, from many callers; and FiD of other libraries.

    python benchmarks/throughput.py answers [--questions 16 64] [--precision int8] [--rounds 3]
    python benchmarks/throughput.py readers --preset fido-base-base --passages 3 [--peers openvino-int8 ...]

`answers` asks the bundled reader about the bundled documents, from text to evidence; passages are found
before. `readers` measures random weights from tokens to tokens, which peers can, too; peers are FiD of T5's
blocks with the size of the preset's encoder. Each round runs all ways, beginning with another one. Rows go to
benchmarks/results/throughput.jsonl.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import rows

SUBJECTS = ("the catalogue", "a codec", "FiDO", "LUMEN", "a recipe", "the memory", "a shard", "evidence")
FORMS = ("What is {}?", "Where is {} kept?", "What does {} change?", "How large is {}?", "Why is there {}?",
         "What holds {}?", "Who reads {}?", "How fast is {}?")  # fmt: skip
CALLERS = 8
PASSAGES = 20
"""Of an answer; what the documents have for a question may be fewer."""

Ways = dict[str, Callable[[], object]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure questions a second.")
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "throughput.jsonl", help="rows go here")
    kinds = parser.add_subparsers(dest="kind", required=True)
    for name, add in (("answers", _add_answers), ("readers", _add_readers)):
        kind = kinds.add_parser(name)
        kind.add_argument("--questions", nargs="*", type=int, default=[16, 64])
        kind.add_argument("--rounds", type=int, default=3)
        kind.add_argument("--threads", type=int, default=os.cpu_count())
        add(kind)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # before anything reads it
    for row in {"answers": answers, "readers": readers}[options.kind](options):
        rows.append(options.to, row)


def _add_answers(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--precision", default="int8")


def _add_readers(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--preset", default="pocket", help="or a bundled reader, whose sizes are taken")
    kind.add_argument("--passages", type=int, default=PASSAGES)
    kind.add_argument("--passage-tokens", type=int, default=112)
    kind.add_argument("--question-tokens", type=int, default=16)
    kind.add_argument("--output-tokens", type=int, default=16)
    kind.add_argument("--peers", nargs="*", default=["openvino-int8", "onnxruntime-int8", "ctranslate2-int8"])


def timed(ways: Ways, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round; all ways once before, which isn't counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-1, rounds):
        names = list(ways)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            began = time.perf_counter()
            ways[name]()
            if number >= 0:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def _rows(options: argparse.Namespace, questions: int, seconds: dict[str, list[float]], **more: Any) -> Any:
    for way, took in seconds.items():
        rate = questions / statistics.median(took)
        yield rows.row(
            "throughput", of=options.kind, way=way, questions=questions, seconds=took, a_second=rate,
            threads=options.threads, rounds=options.rounds, **more,
        )  # fmt: skip


# Answers, from text to evidence


def answers(options: argparse.Namespace) -> Any:
    """The bundled reader, opened once in this process and once a core in others."""
    from fidkit import Answerer

    asked = [form.format(of) for of, form in itertools.product(SUBJECTS, FORMS)]
    with Answerer.open(reader="pocket", precision=options.precision) as qa:
        assert qa.corpus is not None
        found = {
            question: [hit.passage for hit in qa.corpus.search(question, PASSAGES)] for question in asked
        }
        full = [question for question in asked if len(found[question]) == PASSAGES]
        with _processes(options, found) as others:
            for count in options.questions:
                chosen = list(itertools.islice(itertools.cycle(full), count))
                passages = [found[question] for question in chosen]
                seconds = timed(_ways(qa, chosen, passages, others), options.rounds)
                tokens = sum(len(p.text) for p in passages[0]) / PASSAGES
                yield from _rows(
                    options, count, seconds, subject="pocket", precision=options.precision,
                    passages=PASSAGES, characters=tokens,
                )  # fmt: skip


def _ways(qa: Any, questions: list[str], passages: list[Any], others: Sequence[Connection]) -> Ways:
    def one_by_one() -> None:
        for question, of_one in zip(questions, passages, strict=True):
            qa.read(question, of_one)

    def callers() -> None:
        with ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(qa.read, questions, passages))

    def processes() -> None:
        for number, other in enumerate(others):
            other.send(questions[number :: len(others)])
        for other in others:
            other.recv()

    return {
        "one by one": one_by_one,
        "a list of all": lambda: qa.read(questions, passages),
        f"{CALLERS} threads that ask": callers,
        "a process a core": processes,
    }


class _processes:
    """Answerers of one thread in processes of their own, as many as this one has threads."""

    def __init__(self, options: argparse.Namespace, found: dict[str, Any]) -> None:
        self.options, self.found = options, found

    def __enter__(self) -> list[Connection]:
        context = multiprocessing.get_context("spawn")
        os.environ["OMP_NUM_THREADS"] = "1"
        ends = [context.Pipe() for _ in range(self.options.threads)]
        self.running = [
            context.Process(target=_answer, args=(end, self.options.precision, self.found)) for _, end in ends
        ]
        for process in self.running:
            process.start()
        self.ours = [end for end, _ in ends]
        for end in self.ours:
            end.recv()
        os.environ["OMP_NUM_THREADS"] = str(self.options.threads)
        return self.ours

    def __exit__(self, *_: object) -> None:
        for end, process in zip(self.ours, self.running, strict=True):
            end.send(None)
            process.join()


def _answer(end: Connection, precision: Any, found: dict[str, Any]) -> None:
    """Answer lists of questions until there is none, and say when each is done."""
    from fidkit import Answerer

    with Answerer("pocket", precision=precision) as qa:
        end.send(True)
        while (questions := end.recv()) is not None:
            for question in questions:
                qa.read(question, found[question])
            end.send(True)


# Readers, from tokens to tokens


def readers(options: argparse.Namespace) -> Any:
    """A preset and peers, each with one question at a time and with all at once."""
    import torch

    from fidkit.bench.peers import make_peer
    from fidkit.bench.questions import Questions, synthetic
    from fidkit.bench.subjects import DTYPES, Ours, SharedWeights, Subject
    from fidkit.cost import Workload

    torch.set_num_threads(options.threads)
    config, on = _config(options.preset), torch.device("cpu")
    # T5's blocks of the same number of operations stand for BERT's, which T5 of transformers doesn't have.
    like = config.replace(
        encoder=config.encoder.replace(family="t5") if config.encoder.family == "bert" else config.encoder
    )
    for count in options.questions:
        workload = Workload(
            questions=count, passages=options.passages, passage_tokens=options.passage_tokens,
            question_tokens=options.question_tokens, output_tokens=options.output_tokens,
        )  # fmt: skip
        together = synthetic(workload, config.vocabulary_size)
        alone = [Questions([q], [p]) for q, p in zip(together.questions, together.passages, strict=True)]
        weights = SharedWeights(config, DTYPES["int8"], on)
        subjects: list[Subject] = [Ours(options.preset, options.preset, weights, "int8")]
        subjects += [make_peer(name, like, "int8", on) for name in options.peers]
        ways: Ways = {}
        for subject in subjects:
            subject.prepare(together)
            with torch.inference_mode():
                subject.warm_up(options.output_tokens)
            ways |= _readings(subject, together, alone, options.output_tokens)
        with torch.inference_mode():
            seconds = timed(ways, options.rounds)
        for row in _rows(
            options, count, seconds, precision="int8", shapes=together.shapes(options.output_tokens)
        ):
            subject_name, _, way = row["way"].partition(": ")
            yield row | {
                "preset": options.preset,
                "subject": subject_name,
                "way": way,
                "peer": subject_name != options.preset,
            }


def _config(name: str) -> Any:
    from fidkit import assets
    from fidkit.config import ReaderConfig
    from fidkit.preset import named

    return ReaderConfig.load(assets.reader(name) / "config.json") if name in assets.READERS else named(name)


def _readings(subject: Any, together: Any, alone: Sequence[Any], tokens: int) -> Ways:
    from fidkit.context import collate

    pad = subject.config.pad_token

    def laid_out(questions: Any) -> Any:
        if subject.facts.preset is None:
            return subject.sort_rows(questions)
        return collate(questions.questions, questions.passages, pad_token=pad)

    def read(batches: Sequence[Any]) -> None:
        for batch in batches:
            setattr(subject, "batch" if subject.facts.preset else "rows", batch)
            subject.encode()
            subject.decode(tokens)

    at_once, singly = [laid_out(together)], [laid_out(one) for one in alone]
    return {
        f"{subject.name}: one by one": lambda: read(singly),
        f"{subject.name}: at once": lambda: read(at_once),
    }


if __name__ == "__main__":
    main()
