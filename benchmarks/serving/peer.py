"""What a person would write without fidkit: FiD on transformers behind FastAPI, one question at a time.

    python benchmarks/serving/peer.py CORPUS --encoder DIR [--readers 1] [--threads 2] [--dtype bfloat16]

DIR is the bundled reader's encoder as transformers has it (`fidkit convert pocket DIR --to hf-bert`).
Passages come from the same search, are cut at the same length, and go through the encoder in one padded
batch. Their states side by side are what a T5 decoder of the same size reads; `generate` writes greedily. The
decoder's weights are random, since transformers has none that copies as the bundled one does, so that it
never ends by itself: a request says with `max_tokens` how many tokens its answer has. The route takes and
gives what fidkit's does.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from transformers import AutoModel, AutoTokenizer, T5Config, T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from fidkit.checkpoint.files import locate, open_directory
from fidkit.engine.meaning import runnable
from fidkit.passages import Corpus
from fidkit.passages.opening import open_sources
from fidkit.server.schemas import Answer, AnswerRequest
from fidkit.types import Hit

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Reader:
    """FiD of the bundled reader's size on transformers.

    Args:
        directory: encoder and tokenizer.
        dtype: of weights and activations.
    """

    def __init__(self, directory: Path, dtype: torch.dtype) -> None:
        config = open_directory(locate("pocket")).config
        decoder = config.decoder
        self.most_tokens = config.question_tokens + config.passage_tokens
        self.tokenizer: Any = AutoTokenizer.from_pretrained(directory)
        self.encoder = AutoModel.from_pretrained(directory, dtype=dtype, add_pooling_layer=False).eval()
        torch.manual_seed(0)
        # A configuration takes more words than transformers declares.
        sizes: dict[str, Any] = {
            "vocab_size": config.vocabulary_size, "d_model": decoder.width, "d_kv": decoder.head_width,
            "d_ff": decoder.feed_forward, "num_heads": decoder.heads, "num_layers": decoder.layers,
            "num_decoder_layers": decoder.layers, "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": True, "decoder_start_token_id": config.start_token,
            "pad_token_id": config.pad_token, "eos_token_id": None,
        }  # fmt: skip
        model: Any = T5ForConditionalGeneration(T5Config(**sizes))
        self.model = model.to(dtype).eval()

    @torch.inference_mode()
    def read(self, question: str, passages: Sequence[tuple[str, str]], tokens: int) -> str:
        """The answer to a question, out of passages with a title each; so many tokens."""
        rows = self.tokenizer(
            [question] * len(passages),
            [f"{title} [SEP] {text}" for title, text in passages],
            padding=True, truncation="only_second", max_length=self.most_tokens, return_tensors="pt",
        )  # fmt: skip
        states = self.encoder(**rows).last_hidden_state
        written = self.model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=states.flatten(0, 1)[None]),
            attention_mask=rows["attention_mask"].flatten()[None],
            max_new_tokens=tokens,
            do_sample=False,
            num_beams=1,
        )
        text: str = self.tokenizer.decode(written[0], skip_special_tokens=True)
        return text


def application(corpus: Corpus, reader: Reader, readers: int) -> FastAPI:
    """The route; so many questions are read at once."""
    app, pool = FastAPI(), ThreadPoolExecutor(readers)

    @app.post("/v1/answer", response_model=Answer)
    async def answer(body: AnswerRequest) -> dict[str, Any]:
        question = body.question
        assert isinstance(question, str)
        assert isinstance(body.passages, int)
        times = [time.perf_counter()]
        hits = await asyncio.to_thread(corpus.search, question, body.passages)
        times.append(time.perf_counter())
        passages = [(hit.passage.title, hit.passage.text) for hit in hits]

        def read() -> str:
            times.append(time.perf_counter())
            return reader.read(question, passages, body.max_tokens)

        text = await asyncio.get_running_loop().run_in_executor(pool, read)
        times.append(time.perf_counter())
        return record(question, text, hits, times)

    return app


def record(question: str, text: str, hits: Sequence[Hit], times: Sequence[float]) -> dict[str, Any]:
    """A response as fidkit's; what this reader can't say is empty."""
    evidence: list[dict[str, Any]] = [
        {
            "id": hit.passage.id, "title": hit.passage.title, "text": hit.passage.text,
            "source": hit.passage.source, "score": 0.0, "span": None, "sentence": "", "without": None,
            "where": {}, "boxes": [],
        }
        for hit in hits
    ]  # fmt: skip
    stages = zip(("search", "queue", "read"), times, times[1:], strict=False)
    timings = {name: 1000 * (end - begin) for name, begin, end in stages}
    return {
        "question": question, "answer": text, "guess": text, "confidence": 0.0, "score": 0.0,
        "verbatim": False, "evidence": evidence, "reader": "peer", "notes": [],
        "timings_ms": {**timings, "total": sum(timings.values())},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve FiD on transformers.")
    parser.add_argument("corpus")
    parser.add_argument("--encoder", type=Path, required=True, help="as transformers has it")
    parser.add_argument("--readers", type=int, default=1, help="questions read at once")
    parser.add_argument("--threads", type=int, default=2, help="of each")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="bfloat16")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    opened, _ = open_sources(options.corpus, encoder=runnable())
    with opened as corpus, socket.create_server(("127.0.0.1", 0)) as listening:
        reader = Reader(options.encoder, DTYPES[options.dtype])
        print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        settings = uvicorn.Config(
            application(corpus, reader, options.readers), log_level="warning", access_log=False
        )
        uvicorn.Server(settings).run(sockets=[listening])


if __name__ == "__main__":
    main()
