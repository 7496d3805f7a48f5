"""A reader that comes along answers from its memory in each codec."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import judging
import memories
import torch
from judging import BATCH, Asked

from fidkit.context import pad
from fidkit.engine.answering import tokenizer_of
from fidkit.engine.runner import Runner
from fidkit.memory import MemoryStore
from fidkit.passages import Corpus
from fidkit.passages.token_cache import passage_key
from fidkit.reader import Reader
from study.ranked import guessed
from study.variants import SETS, Shipped

OTHERS = 1000
"""Passages in the memory beside those that are asked about: codes of pq are found by all of them."""
PQ_CODES = 4096
COMPARED = 200
"""Passages whose memory is compared with what a codec gives back."""


class Remembered:
    """Judges a reader with the memory of passages that hold an answer.

    Args:
        data: folder with qa.
        corpus: a built corpus of the passages.
        limit: questions of each set.
        stack: closes what is opened here.
    """

    def __init__(self, data: Path, corpus: Path, limit: int, stack: ExitStack) -> None:
        self._asked = judging.gold(data, corpus, limit, SETS)
        wanted = [p for asked in self._asked.values() for _, of_one in asked for p in of_one]
        self._compared = wanted[:COMPARED]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with Corpus.open(corpus) as opened:
            self._corpus = memories.make_corpus([*wanted, *islice(opened, OTHERS)], folder)

    def judged(self, one: Shipped) -> dict[str, Any]:
        """The outcome part of a row; what answers cost is that of all questions, memory at hand."""
        runner = Runner(Reader.from_pretrained(one.reader), "float32")
        with memories.stored(self._corpus, one.reader, one.codec, PQ_CODES) as store:
            began = time.process_time()
            scores = {name: self._scores(runner, asked, store) for name, asked in self._asked.items()}
            seconds = time.process_time() - began
            info = store.info
            return {
                "decides": list(scores), **scores, "cpu_seconds": round(seconds, 1), "states_seconds": 0.0,
                "codec": one.codec, "pq_codes": PQ_CODES if one.codec == "pq" else None,
                "bytes_a_passage": info.bytes / info.rows, "bytes_a_token": info.bytes / info.tokens,
                "error": self._error(runner, store),
            }  # fmt: skip

    def _scores(self, runner: Runner, asked: Asked, store: MemoryStore) -> dict[str, Any]:
        results, likelihood = judging.results(runner, asked, store), 0.0
        for at in range(0, len(asked), BATCH):
            questions, passages = zip(*asked[at : at + BATCH], strict=True)
            likelihood += judging.log_likelihood(runner, questions, passages, store)
        return {**guessed(results), "log_likelihood": likelihood / len(asked)}

    def _error(self, runner: Runner, store: MemoryStore) -> float:
        """Root of the mean square of what a codec changes, over that of memory in float32."""
        keys = [passage_key(passage) for passage in self._compared]
        stored_XD = store.fetch(store.find(keys), torch.float32).result().memory_XD
        ids = tokenizer_of(runner).passages(self._compared)
        ids_RP, lengths_R = pad(ids, runner.config.pad_token), torch.tensor([len(row) for row in ids])
        exact_XD = runner.encode_passages(torch.as_tensor(ids_RP), lengths_R)
        return float((stored_XD - exact_XD).square().mean().sqrt() / exact_XD.square().mean().sqrt())
