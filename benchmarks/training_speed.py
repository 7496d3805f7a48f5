"""Training steps on real questions, beside FiD on transformers, and the loss of both from equal weights.

    python benchmarks/training_speed.py --data DIR [--size small] [--passages 20] [--rounds 7] [--out OUT]

Needs DIR/qa/train.jsonl.gz (questions with a `target`), DIR/retrieved/train.jsonl.gz (`{"id", "ctx_ids"}`)
and passages in DIR/corpus/*.jsonl.gz. Each round takes other questions, and all systems train on them one
after the other. `hf-256` pads every row to 256 tokens, as FiD's own code pads to its limit; `hf-longest` to
the longest row of the step. On a machine that others use, look at `cpu_ms` with one thread
(OMP_NUM_THREADS=1): the time that steps took of the processor. Rows go to OUT/training-speed.jsonl: one a
system, one for the curve.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import rows
import torch
from paper.sizes import SIZES
from paper.training import STAGES, OurStep, PeerStep, Step, pad_to
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from fidkit.bench import ceilings
from fidkit.bench.measure import Clock, rotated, summary
from fidkit.bench.questions import Questions
from fidkit.config import ReaderConfig
from fidkit.context import IGNORED, collate
from fidkit.convert.export import export_t5
from fidkit.errors import DataError, FidkitError
from fidkit.passages.load.rows import read_rows
from fidkit.preset import TINY_VOCABULARY
from fidkit.questions.files import read_questions
from fidkit.reader import Reader
from fidkit.tokens import Tokenizer
from fidkit.train.data.joined import read_ranked
from fidkit.train.loop.start import slow_precision
from fidkit.types import Passage

PADDED_TO = 256
"""Of question and passage together, in the FiDO paper; FiD's own code has 200 or 250."""
PEERS = {"hf-256": PADDED_TO, "hf-longest": None}
SYSTEMS = ("fid", "lsa", "mq", "asym", *PEERS)
CURVE_RATE = 3e-4
Lesson = tuple[Questions, Tensor]
"""Questions with their passages, and their targets [B, T]."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    try:
        run(options)
    except FidkitError as error:
        raise SystemExit(str(error)) from error


def run(options: argparse.Namespace) -> None:
    """Measure, and write rows.

    Raises:
        DataError: a file is missing or malformed, or there are too few questions.
    """
    device = torch.device(options.device)
    config = _config(options.size, "fid")
    wanted = max(options.rounds + 1, options.curve_steps)
    lessons = list(itertools.islice(read_lessons(options.data, config, options), wanted))
    if len(lessons) < wanted:
        raise DataError(
            f"{options.data}: {len(lessons)} steps' worth of questions, {wanted} are needed; take fewer "
            "rounds, steps or passages, or a smaller batch"
        )
    out = options.out / "training-speed.jsonl"
    about = {
        "size": options.size,
        "machine": ceilings.describe(device),
        "threads": torch.get_num_threads(),
        "batch": options.batch,
        "passages": options.passages,
    }
    for found in measure(options, lessons[: options.rounds + 1], device):
        rows.append(out, _row("training-speed", device, **about, **found))
    if options.curve_steps:
        ours, theirs = curves(config, lessons[: options.curve_steps], options.curve_passages, device)
        apart = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
        values = {"fid": ours, "hf": theirs, "largest_difference": apart, "rate": CURVE_RATE}
        about["passages"] = options.curve_passages
        rows.append(out, _row("training-curve", device, **about, dtype="float32", dropout=0.0, **values))


def read_lessons(data: Path, config: ReaderConfig, options: argparse.Namespace) -> Iterator[Lesson]:
    """Questions in the order of the file, so many a step, with the best of what was retrieved for them."""
    tokenizer = Tokenizer.bundled(config)
    ranked = read_ranked(data / "retrieved" / "train.jsonl.gz")
    needed = options.batch * max(options.rounds + 1, options.curve_steps)
    asked = itertools.islice(
        (
            question
            for question in read_questions(data / "qa" / "train.jsonl.gz")
            if question.answers and len(ranked.get(question.id, ())) >= options.passages
        ),
        needed,
    )
    questions = list(asked)
    wanted = {i for question in questions for i in ranked[question.id][: options.passages]}
    passages = _read_passages(data / "corpus", wanted)
    if lacking := wanted - passages.keys():
        raise DataError(f"{data / 'corpus'}: no passage {min(lacking)}, which was retrieved for a question")
    for start in range(0, len(questions) - options.batch + 1, options.batch):
        some = questions[start : start + options.batch]
        found = [[passages[i] for i in ranked[q.id][: options.passages]] for q in some]
        targets = [torch.tensor(tokenizer.target(q.target or q.answers[0], 32)) for q in some]
        yield (
            Questions(
                [tokenizer.question(q.question).ids for q in some],
                [tokenizer.passages(each) for each in found],
                source="retrieved",
            ),
            pad_sequence(targets, batch_first=True, padding_value=IGNORED),
        )


def _read_passages(folder: Path, wanted: set[str]) -> dict[str, Passage]:
    found: dict[str, Passage] = {}
    for file in sorted(folder.glob("*.jsonl.gz")):
        with file.open("rb") as raw:
            read = (row for row in read_rows(raw, file.name) if row.id in wanted)
            found |= {row.id: Passage(row.id, row.title, row.text) for row in read}
    return found


# Speed


def measure(
    options: argparse.Namespace, lessons: Sequence[Lesson], device: torch.device
) -> Iterator[dict[str, Any]]:
    """Steps of all systems in interleaved rounds; the first lesson warms up."""
    steps = [_step(name, options, device) for name in options.systems]
    for step in steps:
        step.prepare(*lessons[0])
        step(Clock(device))
    times: dict[str, list[dict[str, float]]] = {step.name: [] for step in steps}
    load = [os.getloadavg()[0]]
    for number, lesson in enumerate(lessons[1:]):
        for step in rotated(steps, number):
            step.load(*lesson)
            began = time.process_time()
            times[step.name].append(step(Clock(device)))
            times[step.name][-1]["cpu_ms"] = 1000 * (time.process_time() - began)
        load.append(os.getloadavg()[0])
    lengths = [[len(row) for row in questions.rows] for questions, _ in lessons[1:]]
    for step in steps:
        repeats = {stage: [each[stage] for each in times[step.name]] for stage in (*STAGES, "cpu_ms")}
        yield {
            "system": step.name,
            "config": step.config.model_dump(mode="json"),
            "dtype": "bfloat16 autocast" if step.bfloat16 else "float32",
            "dropout": step.dropout,
            "row_tokens": [sum(each) for each in lengths],
            "longest_row": [max(each) for each in lengths],
            "load": load,
            "repeats": repeats,
            "samples_per_second": 1000 * options.batch / summary(repeats["total_ms"])["median"],
            **{stage: summary(values) for stage, values in repeats.items()},
        }


def _step(name: str, options: argparse.Namespace, device: torch.device) -> Step:
    config = _config(options.size, "fid" if name in PEERS else name)
    step: Callable[..., Step] = partial(PeerStep, width=PEERS[name]) if name in PEERS else OurStep
    made = step(name, config, device, options.dropout)
    made.bfloat16 = (options.precision or usual_precision(device)) == "bfloat16"
    return made


def usual_precision(device: torch.device) -> str:
    """What a person would train with there."""
    return "float32" if slow_precision("bfloat16", device) else "bfloat16"


# The loss


def curves(
    config: ReaderConfig, lessons: Sequence[Lesson], passages: int, device: torch.device
) -> tuple[list[float], list[float]]:
    """Losses of FiD here and on transformers, step by step: float32, no dropout, from the same weights."""
    from transformers import T5ForConditionalGeneration

    torch.manual_seed(0)
    reader = Reader(config.replace(dropout=0.0))
    with tempfile.TemporaryDirectory() as folder:
        export_t5(reader, folder)
        peer: Any = T5ForConditionalGeneration.from_pretrained(folder)
    fewer = [
        (Questions(q.questions, [each[:passages] for each in q.passages]), labels) for q, labels in lessons
    ]
    ours = _train(reader.to(device), _our_losses(reader, fewer, device))
    return ours, _train(peer.to(device), _peer_losses(peer, fewer, device))


def _train(model: nn.Module, losses: Iterator[Tensor]) -> list[float]:
    """The loss before each update; `losses` computes one with the weights as they are."""
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=CURVE_RATE, fused=True)
    curve = []
    for loss in losses:
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        curve.append(loss.item())
    return curve


def _our_losses(reader: Reader, lessons: Sequence[Lesson], device: torch.device) -> Iterator[Tensor]:
    for questions, labels in lessons:
        batch = collate(questions.questions, questions.passages).to(device)
        loss = reader.answer_loss(labels.to(device), reader.read(batch))
        yield loss / (labels != IGNORED).sum()


def _peer_losses(peer: Any, lessons: Sequence[Lesson], device: torch.device) -> Iterator[Tensor]:
    for questions, labels in lessons:
        B = len(questions.questions)
        ids, mask = pad_to(PADDED_TO, questions.rows, peer.config.pad_token_id, device)
        states = peer.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        fused = (states.reshape(B, -1, states.shape[-1]),)
        done = peer(encoder_outputs=fused, attention_mask=mask.reshape(B, -1), labels=labels.to(device))
        yield done.loss


def _config(size: str, system: str) -> ReaderConfig:
    config = SIZES[size].system(system)
    return config.replace(vocabulary_size=max(config.vocabulary_size, TINY_VOCABULARY))


def _row(kind: str, device: torch.device, **values: Any) -> dict[str, Any]:
    packages = ("torch", "transformers", "fidkit")
    return rows.row(kind, packages=packages, device=device.type, **values)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with qa, retrieved and corpus")
    parser.add_argument("--out", type=Path, default=rows.RESULTS, metavar="OUT", help="rows go here")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, default=1, help="questions a step")
    parser.add_argument("--passages", type=int, default=20)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument(
        "--precision",
        choices=("bfloat16", "float32"),
        help="of products; bfloat16 unless the CPU is slow in it",
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--curve-steps", type=int, default=30, help="0 leaves the curve out")
    parser.add_argument("--curve-passages", type=int, default=10)
    return parser


if __name__ == "__main__":
    main()
