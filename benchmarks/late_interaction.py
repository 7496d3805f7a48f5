"""Whether stored memory can rerank: late interaction over it with a small trained projection (ReAtt, GRC).

    python benchmarks/late_interaction.py train --data DATA --work DIR
    python benchmarks/late_interaction.py recall --data DATA --work DIR [--passages 39000] [--asked 300]

`train` takes questions of DATA/qa/train with a passage that is known to hold the answer and passages that
words find and that hold none, and learns two matrices, of questions and of passages, on the states after the
memory layers of a reader. A passage's score is the sum, over the question's tokens, of the best cosine among
the passage's tokens (MaxSim); the right one is to win against all others of a batch. `recall` reranks the
first 50 passages that words find, and that words and meaning find, for the development questions of
`retrieval.py recall`. What was encoded is kept in DIR. Rows go to benchmarks/results/late-interaction.jsonl.

Letters: Q questions, X tokens, D width of memory, W width of the projection.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import retrieval
import rows

from fidkit import assets, native
from fidkit.checkpoint.files import open_directory
from fidkit.context import Batch, pad
from fidkit.engine.cpu.reader import NativeReader
from fidkit.evaluate.metrics import recall_at
from fidkit.native.threads import threads
from fidkit.passages.protocol import Retriever
from fidkit.questions.files import Question
from fidkit.types import Passage, distinct

WIDTH = 64
CANDIDATES = 50
DEPTHS = (1, 5, 20)
TOGETHER = 64
PACKAGES = ("fidkit", "numpy")
READER = "pocket-lumen"


@dataclass(frozen=True)
class Example:
    """A training question with a passage that answers it and one that words find and that doesn't."""

    question: str
    right: int
    wrong: int


class Memory:
    """Questions and passages to the states at which they meet in a reader."""

    def __init__(self) -> None:
        kernels = native.kernels()
        assert kernels is not None, "this needs native kernels"
        self.reader = NativeReader.from_pretrained(open_directory(assets.reader(READER)), kernels)
        assert self.reader.tokenizer is not None
        self.tokenizer = self.reader.tokenizer

    def passages(self, some: Sequence[Passage]) -> Iterator[np.ndarray]:
        """States [tokens, D] of each, as a memory has them."""
        for at in range(0, len(some), TOGETHER):
            ids = self.tokenizer.passages(some[at : at + TOGETHER])
            lengths = np.array([len(row) for row in ids])
            states_XD = self.reader.encode_passages(pad(ids, 0), lengths)
            yield from np.split(states_XD, lengths.cumsum()[:-1])

    def questions(self, some: Sequence[str]) -> Iterator[np.ndarray]:
        """States [tokens, D] of each."""
        none = np.zeros(0, np.int64)
        for at in range(0, len(some), TOGETHER):
            ids = [self.tokenizer.question(text).ids for text in some[at : at + TOGETHER]]
            lengths = np.array([len(row) for row in ids])
            batch = Batch(pad(ids, 0), lengths, none[:, None], none, none)
            yield from np.split(self.reader.encode_questions(batch), lengths.cumsum()[:-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("train", "recall"))
    parser.add_argument("--data", type=Path, required=True, help="folder with corpus, qa and retrieved")
    parser.add_argument("--work", type=Path, required=True, help="directory for what is made; kept")
    parser.add_argument("--passages", type=int, default=39_000)
    parser.add_argument("--asked", type=int, default=300, help="questions of each set")
    parser.add_argument("--examples", type=int, default=1200, help="training questions of each set")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "late-interaction.jsonl")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    if given.what == "train":
        train(given)
    else:
        recall(given)


# Training


def examples_of(data: Path, count: int) -> list[Example]:
    """Some questions of each set that have a passage with the answer."""
    found: dict[str, list[int]] = {}
    with gzip.open(data / "retrieved" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            found[record["id"]] = record["ctx_ids"]
    made: dict[str, list[Example]] = {name: [] for name in retrieval.SETS}
    draw = random.Random(0)
    with gzip.open(data / "qa" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            right = record["positive_ids"]
            wrong = [key for key in found.get(record["id"], [])[:20] if key not in right]
            if record["dataset"] in made and right and wrong:
                made[record["dataset"]].append(Example(record["question"], right[0], draw.choice(wrong)))
    for of_set in made.values():
        draw.shuffle(of_set)
    return [example for of_set in made.values() for example in of_set[:count]]


def train(given: argparse.Namespace) -> None:
    """Two matrices [D, W], into DIR/projection.npz."""
    memory, examples = Memory(), examples_of(given.data, given.examples)
    every = retrieval.every_passage(given.data)
    needed = sorted({key for example in examples for key in (example.right, example.wrong)})
    began = time.perf_counter()
    states = memory.passages([every[key] for key in needed])
    passages = {key: found.astype(np.float16) for key, found in zip(needed, states, strict=True)}
    questions = [found.astype(np.float16) for found in memory.questions([e.question for e in examples])]
    encoded = time.perf_counter() - began
    began = time.perf_counter()
    of_question, of_passage, losses = fitted(examples, questions, passages, given.steps)
    seconds = time.perf_counter() - began
    facts = {
        "examples": len(examples), "steps": given.steps, "encode_s": encoded, "train_s": seconds,
        "loss": [statistics.mean(losses[:50]), statistics.mean(losses[-50:])],
    }  # fmt: skip
    np.savez(given.work / "projection.npz", question=of_question, passage=of_passage, facts=json.dumps(facts))
    print(json.dumps(facts), flush=True)


def fitted(
    examples: Sequence[Example], questions: Sequence[np.ndarray], passages: dict[int, np.ndarray], steps: int
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Matrices [D, W] of questions and passages, and the loss of every step."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    width = questions[0].shape[1]
    of_question, of_passage = (nn.Linear(width, WIDTH, bias=False) for _ in range(2))
    scale = nn.Parameter(torch.tensor(3.0))
    parameters = [*of_question.parameters(), *of_passage.parameters(), scale]
    optimiser = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.01)
    slower = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    draw, losses = random.Random(0), list[float]()

    def padded(states: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        tensors = [torch.from_numpy(some).float() for some in states]
        lengths = torch.tensor([len(some) for some in tensors])
        return nn.utils.rnn.pad_sequence(tensors, batch_first=True), lengths

    for _ in range(steps):
        some = draw.sample(range(len(examples)), 32)
        asked, asked_lengths = padded([questions[n] for n in some])
        keys = [examples[n].right for n in some] + [examples[n].wrong for n in some]
        told, told_lengths = padded([passages[key] for key in keys])
        asked = nn.functional.normalize(of_question(asked), dim=-1)
        told = nn.functional.normalize(of_passage(told), dim=-1)
        there = torch.arange(told.shape[1]) < told_lengths[:, None]
        cosines = torch.einsum("qiw,pjw->qpij", asked, told).masked_fill(~there[None, :, None], -1.0)
        best = cosines.amax(-1) * (torch.arange(asked.shape[1]) < asked_lengths[:, None])[:, None]
        logits = scale.exp() * best.sum(-1) / asked_lengths[:, None]
        # One passage may be right for several of these questions.
        same = torch.tensor([[examples[n].right == key for key in keys] for n in some])
        same[torch.arange(len(some)), torch.arange(len(some))] = False
        loss = nn.functional.cross_entropy(logits.masked_fill(same, -1e9), torch.arange(len(some)))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        slower.step()
        losses.append(float(loss.detach()))
    first, second = (layer.weight.detach().numpy().T.copy() for layer in (of_question, of_passage))
    return first, second, losses


# Reranking


@dataclass(frozen=True)
class Late:
    """Passages as projected tokens of 8 bits, and what scores them."""

    memory: Memory
    of_question: np.ndarray
    passages: dict[int, np.ndarray]

    def question(self, text: str) -> np.ndarray:
        """[tokens, W], each of length 1."""
        [states] = self.memory.questions([text])
        return unit(states @ self.of_question)

    def scores(self, question: np.ndarray, keys: Sequence[int]) -> np.ndarray:
        """MaxSim of passages, a mean over the question's tokens."""
        found = [self.passages[key] for key in keys]
        starts = np.cumsum([0, *(len(some) for some in found)])[:-1]
        cosines = question @ (np.concatenate(found).astype(np.float32) / 127).T
        best: np.ndarray = np.maximum.reduceat(cosines, starts, axis=1).mean(0)
        return best


def unit(vectors: np.ndarray) -> np.ndarray:
    made: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
    return made


def recall(given: argparse.Namespace) -> None:
    """A row a set, and one of what reranking takes."""
    retrieval.QUESTIONS = given.asked
    indexed, asked = retrieval.index(given)
    ways: dict[str, Retriever] = {
        way: found for way, found in indexed.ways().items() if way in ("words", "meaning", "both, 0.5")
    }
    first = {
        name: {
            way: [distinct_rows(retriever, q.question, indexed.passages) for q in of_set]
            for way, retriever in ways.items()
        }
        for name, of_set in asked.items()
    }
    needed = sorted(
        {row for of_set in first.values() for way in of_set.values() for hits in way for row, _ in hits}
    )
    late, facts = ready(given.work, {row: indexed.passages[row] for row in needed})
    for name, of_set in asked.items():
        found = {}
        for way, hits in first[name].items():
            found[way] = measured(of_set, hits, indexed.passages)
            for weight in (0.5, 1.0):
                mixed = [
                    reranked(late, q.question, some, weight) for q, some in zip(of_set, hits, strict=True)
                ]
                label = f"{way}, late {weight}"
                found[label] = measured(of_set, mixed, indexed.passages)
        record = {"set": name, "n": len(of_set), "passages": len(indexed.passages), "recall": found}
        rows.append(given.to, rows.row("late-interaction", PACKAGES, of="recall", reader=READER, **record))
    texts = [q.question for of_set in asked.values() for q in of_set]
    hits = [some for of_set in first.values() for some in of_set["words"]]
    rows.append(
        given.to, rows.row("late-interaction", PACKAGES, of="cost", **cost(late, texts, hits), **facts)
    )


def distinct_rows(
    retriever: Retriever, question: str, passages: dict[int, Passage]
) -> list[tuple[int, float]]:
    """The first 50 different passages, with scores."""
    hits = dict(retriever.search(question, 2 * CANDIDATES))
    by_passage = {passages[row].id: row for row in hits}
    kept = [by_passage[passage.id] for passage in distinct([passages[row] for row in hits])]
    return [(row, hits[row]) for row in kept[:CANDIDATES]]


def ready(work: Path, passages: dict[int, Passage]) -> tuple[Late, dict[str, Any]]:
    """Projected tokens of all these passages; those in DIR already aren't encoded again."""
    stored = np.load(work / "projection.npz")
    memory, made = Memory(), dict[int, np.ndarray]()
    keep = work / "projected"
    keep.mkdir(exist_ok=True)
    for path in sorted(keep.glob("*.npz")):
        with np.load(path) as part:
            ends = part["lengths"].cumsum()[:-1]
            made |= dict(zip(part["rows"].tolist(), np.split(part["tokens"], ends), strict=True))
    missing = [row for row in passages if row not in made]
    for at in range(0, len(missing), 4096):
        some = missing[at : at + 4096]
        tokens = [
            np.rint(127 * unit(states @ stored["passage"])).astype(np.int8)
            for states in memory.passages([passages[row] for row in some])
        ]
        lengths = np.array([len(one) for one in tokens])
        np.savez(
            keep / f"{some[0]}-{len(some)}.npz", rows=some, lengths=lengths, tokens=np.concatenate(tokens)
        )
        made |= dict(zip(some, tokens, strict=True))
    return Late(memory, stored["question"], made), {"trained": json.loads(str(stored["facts"]))}


def reranked(
    late: Late, question: str, hits: Sequence[tuple[int, float]], weight: float
) -> list[tuple[int, float]]:
    """The same passages in another order, by both scores between 0 and 1; the weight is of the new one."""
    if not hits:
        return []
    keys = [row for row, _ in hits]
    new = spread(late.scores(late.question(question), keys))
    mixed = weight * new + (1 - weight) * spread(np.array([score for _, score in hits]))
    order = np.argsort(-mixed, kind="stable")
    return [(keys[at], float(mixed[at])) for at in order]


def spread(scores: np.ndarray) -> np.ndarray:
    made: np.ndarray = (scores - scores.min()) / max(float(np.ptp(scores)), 1e-9)
    return made


def measured(
    asked: Sequence[Question], found: Sequence[Sequence[tuple[int, float]]], passages: dict[int, Passage]
) -> dict[str, float]:
    """Percent of questions with an answer among the first k."""
    sums = dict.fromkeys(DEPTHS, 0)
    for question, hits in zip(asked, found, strict=True):
        texts = (f"{passages[row].title} {passages[row].text}" for row, _ in hits)
        for depth, right in recall_at(DEPTHS, question.answers, texts).items():
            sums[depth] += right
    return {str(depth): 100 * count / len(asked) for depth, count in sums.items()}


def cost(late: Late, texts: Sequence[str], hits: Sequence[Sequence[tuple[int, float]]]) -> dict[str, Any]:
    """Milliseconds of a question, encoding and scoring apart, and bytes of a passage."""
    chosen = random.Random(1).sample(range(len(texts)), min(200, len(texts)))
    encoding, scoring = list[float](), list[float]()
    for n in chosen:
        began = time.perf_counter()
        question = late.question(texts[n])
        encoded = time.perf_counter()
        late.scores(question, [row for row, _ in hits[n]])
        encoding.append(1000 * (encoded - began))
        scoring.append(1000 * (time.perf_counter() - encoded))
    return {
        "threads": threads(),
        "width": WIDTH,
        "question_ms": statistics.median(encoding),
        "score_ms": statistics.median(scoring),
        "bytes_a_passage": statistics.mean(some.nbytes for some in late.passages.values()),
    }


if __name__ == "__main__":
    main()
