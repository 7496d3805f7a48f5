"""Largest differences to transformers' T5 at T5-small-like size on random weights; prints one JSON row.

python benchmarks/parity.py [--passages 8] [--seed 0]

Float32, on the CPU: encoder, decoder and their gradients, T5 v1.0 (tied head, scaled logits) and v1.1 (a head
of its own), FiD over ragged passages. The greedy answers are compared with a loop without any cache.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import rows
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from fidkit.context import IGNORED
from fidkit.convert import import_t5
from fidkit.convert.t5 import table
from fidkit.engine.generation.generate import greedy
from oracles import batch_of, hf_greedy, hf_logits, hf_t5, loss_of

VOCABULARY = 32128
# T5 v1.1's small.
SIZES: dict[str, Any] = {"vocab_size": VOCABULARY, "d_model": 512, "d_kv": 64, "d_ff": 1024, "num_heads": 6}
LAYERS = 8
ANSWER_TOKENS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passages", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began = time.perf_counter()
    versions = {"v1.0": True, "v1.1": False}
    found = {name: compare(tied, arguments.passages, arguments.seed) for name, tied in versions.items()}
    seconds = round(time.perf_counter() - began, 1)
    theirs = importlib.metadata.version("transformers")
    record = rows.row("parity", transformers=theirs, passages=arguments.passages, seed=arguments.seed)
    print(json.dumps({**record, "seconds": seconds, **found}))


def compare(tied: bool, passages: int, seed: int) -> dict[str, Any]:
    """Differences of one version of T5, as largest absolute values."""
    model = hf_t5(tied=tied, layers=LAYERS, seed=seed, **SIZES)
    with tempfile.TemporaryDirectory() as directory:
        model.save_pretrained(directory)
        reader, _ = import_t5(directory)
    question, target = draw(12), [*draw(7), 1]
    read = [draw(int(length)) for length in torch.randint(20, 200, (passages,))]
    joined = [question + passage for passage in read]

    output = reader(batch_of([(question, read, target)]))
    output.loss.backward()
    logits = hf_logits(model, joined, [0, *target[:-1]])
    loss = loss_of(logits, target)
    loss.backward()
    ours, theirs = dict(reader.named_parameters()), dict(model.named_parameters())
    names = table(reader.config)

    with torch.inference_mode():
        written = greedy(reader, reader.read(batch_of([(question, read, [1])])), ANSWER_TOKENS)
        answer = [token for token in written.ids_BT[0].tolist() if token != IGNORED]
        same = answer == hf_greedy(model, joined, ANSWER_TOKENS)
    return {
        "logit_difference": largest(output.logits[0] - logits),
        "largest_logit": largest(logits),
        "loss_difference": largest(output.loss - loss),
        "gradient_difference": max(largest(theirs[n].grad - ours[names[n]].grad) for n in names),
        "largest_gradient": max(largest(p.grad) for p in theirs.values()),
        "greedy_answers_equal": same,
    }


def draw(length: int) -> list[int]:
    return torch.randint(2, VOCABULARY, (length,)).tolist()


def largest(values: torch.Tensor) -> float:
    return float(values.detach().abs().max())


if __name__ == "__main__":
    main()
