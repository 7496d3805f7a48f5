"""Naive readers that tests compare against: slow, obvious, one question and one passage at a time.

Nothing here is shared with the package except names of parameters: no batch, no padding, no mask, no cache.
Three of them: `NaiveReader`, written with plain matrices; and FiD twice on top of transformers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from fidkit.config import ReaderConfig, StackConfig
from fidkit.context import Batch, collate
from fidkit.reader import Reader
from naive_bert import NaiveBert
from naive_mpnet import NaiveMPNet
from naive_t5 import NaiveT5, NaiveT5v11
from naive_umt5 import NaiveUmt5

Tokens = list[int]
VOCABULARY = 37

# The readers here are too small for threads to pay.
torch.set_num_threads(1)
# The same examples in every run: greedy decoding may tell two nearly equal logits apart by rounding alone.
EXAMPLES = int(os.environ.get("FIDKIT_EXAMPLES", "5"))
"""Of each property; `make slow` tries many more."""
quick = settings(max_examples=EXAMPLES, deadline=None, derandomize=True)


# Readers and questions to try


def stack(layers: int = 3, width: int = 16, heads: int = 4, head_width: int = 6, feed_forward: int = 20):
    return StackConfig(
        layers=layers, width=width, heads=heads, head_width=head_width, feed_forward=feed_forward
    )


def small(**knobs) -> ReaderConfig:
    """A FiD reader small enough for loops in Python."""
    fields = {"encoder": stack(), "decoder": stack(2), "vocabulary_size": VOCABULARY}
    # Few buckets, so that short rows reach the shared ones.
    return ReaderConfig(**fields | {"relative_buckets": 8, "relative_max_distance": 12} | knobs)


def random_reader(config: ReaderConfig, seed: int = 0, *, apart: bool = False) -> Reader:
    """A reader in eval mode whose norms are not 1, and whose scores are not 0.

    With `apart` its encoders are no parts of one.
    """
    generator = torch.Generator().manual_seed(seed)
    reader = Reader(config).eval()
    reader.reset_parameters(generator)
    with torch.no_grad():
        for name, p in reader.named_parameters():
            if "norm" in name:
                p.uniform_(0.5, 1.5, generator=generator)
            if (name.endswith("bias") and "norm" not in name) or name == "head.bias.weight":
                p.normal_(0.0, 0.3, generator=generator)
        if reader.reranker is not None:
            reader.reranker.weight.normal_(generator=generator)
        if not apart:
            reader.split_encoder()
        elif config.memory_layers:
            for p in reader.memory_encoder.parameters():
                p.add_(0.3 * torch.randn(p.shape, generator=generator))
            for part in (reader.question_encoder, reader.memory_encoder.encoder):
                if part.relative_bias is not None:
                    part.relative_bias.weight.normal_(generator=generator)
    return reader


def tokens(low: int = 1, high: int = 9) -> st.SearchStrategy[Tokens]:
    return st.lists(st.integers(2, VOCABULARY - 1), min_size=low, max_size=high)


@st.composite
def questions(draw, most: int = 3, most_passages: int = 4) -> list[tuple[Tokens, list[Tokens], Tokens]]:
    """Questions with their passages and targets, all of different lengths.

    No passage twice for a question: rounding would say which of equal ones is the better.
    """
    passages = st.lists(tokens(), min_size=1, max_size=most_passages, unique_by=tuple)
    one = st.tuples(tokens(), passages, tokens(1, 6))
    return draw(st.lists(one, min_size=1, max_size=most))


def batch_of(examples) -> Batch:
    asked, passages, targets = zip(*examples, strict=True)
    return collate(asked, passages, targets)


# Readers put together from their families' oracles

NAIVE = {"t5": NaiveT5, "t5-v1.1": NaiveT5v11, "umt5": NaiveUmt5, "bert": NaiveBert, "mpnet": NaiveMPNet}


class NaiveReader:
    """Any reader of the family on the parameters of a `Reader`."""

    def __init__(self, reader: Reader) -> None:
        self.config = reader.config
        self.w = dict(reader.named_parameters(remove_duplicate=False))
        if self.config.shared_embedding:
            self.w["decoder.embedding.weight"] = self.w["embedding.weight"]
        self.encoder, self.decoder, self.memory_encoder = (
            NAIVE[stack.family](self.config, stack, self.w)
            for stack in (self.config.encoder, self.config.decoder, self.config.memory_stack)
        )

    def logits(self, question: Tokens, passages: Sequence[Tokens], target: Tokens) -> Tensor:
        """[T, V] of one question with teacher forcing."""
        return self._decode([self.config.pad_token, *target[:-1]], self.context(question, passages))

    def greedy(self, question: Tokens, passages: Sequence[Tokens], most: int) -> Tokens:
        context, written = self.context(question, passages), []
        while len(written) < most and self.config.end_token not in written:
            last = self._decode([self.config.pad_token, *written], context)[-1]
            written.append(int(last.argmax()))
        return written

    def context(self, question: Tokens, passages: Sequence[Tokens]) -> Tensor:
        """[M, D]: the definition of FiD, FiD-Light, MemoryFiD and LUMEN."""
        asked = self._question(question)
        blocks = []
        if self.config.question_in_context == "once":
            alone = self.encoder.last_norm(asked, "live_encoder.norm")
            blocks.append(self._beside_tokens(alone, question))
        rows, sees = self._first_rows(asked, passages)
        texts = [[*question, *passage] for passage in passages]
        first = 0
        if self.config.rerank:
            first, keep = self.config.rerank.after, self.config.rerank.keep
            scores = self._scores(rows)
            best = sorted(sorted(range(len(rows)), key=lambda n: -scores[n])[:keep])
            rows, sees, texts = ([of[n] for n in best] for of in (rows, sees, texts))
        for row, seen, text in zip(rows, sees, texts, strict=True):
            row = self.encoder.encode("live_encoder", range(first, self.config.live), row, seen)
            row = self._beside_tokens(self.encoder.last_norm(row, "live_encoder.norm"), text)
            if self.config.question_in_context != "each":
                row = row[len(question) :]
            blocks.append(row[: self.config.kept_vectors])
        return torch.cat(blocks)

    def _beside_tokens(self, states: Tensor, text: Tokens) -> Tensor:
        """With the decoder's vectors of each token and of the one before it, for a decoder that copies."""
        if not self.config.token_skip:
            return states
        table = self._words()
        before = [self.config.pad_token, *text[:-1]]
        return torch.cat([states, table[text], table[before]], 1)

    def _words(self) -> Tensor:
        """What the decoder writes with."""
        table = self.w["decoder.embedding.weight"]
        if not self.config.standardised_embedding:
            return table
        table = table - table.mean(0)
        return table / table.pow(2).mean(1, keepdim=True).sqrt()

    def scores(self, question: Tokens, passages: Sequence[Tokens]) -> list[float]:
        """Of each passage, in a reader that reranks."""
        return self._scores(self._first_rows(self._question(question), passages)[0])

    def memory(self, passage: Tokens) -> Tensor:
        x = self.memory_encoder.embed("memory_encoder.embedding", passage, "passage")
        return self.memory_encoder.encode("memory_encoder.encoder", range(self.config.memory_layers), x)

    def _question(self, question: Tokens) -> Tensor:
        layers = range(self.config.encoder.layers - self.config.live)
        return self.encoder.encode(
            "question_encoder", layers, self.encoder.embed("embedding", question, "question")
        )

    def _first_rows(self, asked: Tensor, passages: Sequence[Tokens]) -> tuple[list[Tensor], list[Tensor]]:
        """Question and passage after the layers that read all passages, and who sees whom [S, S]."""
        rows, sees = [], []
        for passage in passages:
            remembered = self.memory(passage)
            if "memory_projection.weight" in self.w:
                remembered = remembered @ self.w["memory_projection.weight"].T
            sides = ["question"] * len(asked) + ["passage"] * len(remembered)
            sees.append(torch.tensor([[self._sees(query, key) for key in sides] for query in sides]))
            layers = self.config.rerank.after if self.config.rerank else 0
            row = torch.cat([asked, remembered])
            rows.append(self.encoder.encode("live_encoder", range(layers), row, sees[-1]))
        return rows, sees

    def _decode(self, ids: Tokens, context: Tensor) -> Tensor:
        self.decoder.w = self.w | {"decoder.embedding.weight": self._words()}
        x = self.decoder.decode(ids, context)
        if self.config.tied_head:
            logits = x @ self._words().T / math.sqrt(self.config.decoder.width)
            return logits + self.w["head.bias.weight"] if self.config.head_bias else logits
        logits = x @ self.w["head.linear.weight"].T
        return logits + self.w["head.linear.bias"] if self.config.head_bias else logits

    def _sees(self, query: str, key: str) -> bool:
        return query == key or self.config.live_attention in ("full", f"{query}-sees-{key}")

    def _scores(self, rows: Sequence[Tensor]) -> list[float]:
        # Scores are the reader's own: T5's norm, whatever the family.
        norm = NaiveT5(self.config, self.config.encoder, self.w).norm
        means = [norm(row, "reranker.norm").mean(0) for row in rows]
        return [float((mean @ self.w["reranker.weight"]).detach()) for mean in means]


# FiD on top of transformers


def hf_batch_context(model, rows: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
    """Encode question + passage rows of one question padded and masked, as FiD does: [1, M, D] and mask."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    states = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    return states.reshape(1, -1, states.shape[-1]), mask.reshape(1, -1)


def hf_logits(model, rows: Sequence[Tokens], decoder_ids: Tokens) -> Tensor:
    """[T, V] of one question."""
    states, mask = hf_batch_context(model, rows)
    return _hf_decode(model, states, mask, decoder_ids)


def hf_greedy(model, rows: Sequence[Tokens], most: int) -> Tokens:
    """Greedy FiD without any cache, the end of sequence included."""
    states, mask = hf_batch_context(model, rows)
    written: Tokens = []
    while len(written) < most and model.config.eos_token_id not in written:
        written.append(int(_hf_decode(model, states, mask, [0, *written])[-1].argmax()))
    return written


def _hf_decode(model, states: Tensor, mask: Tensor, decoder_ids: Tokens) -> Tensor:
    return model(
        encoder_outputs=(states,),
        attention_mask=mask,
        decoder_input_ids=torch.tensor([decoder_ids]),
        use_cache=False,
    ).logits[0]


def hf_t5(*, tied: bool, layers: int = 3, seed: int = 0, kind: str = "T5", **sizes):
    """A random transformers T5: v1.0 (tied, ReLU, scaled logits) or v1.1 (its own head, gated GELU).

    Or another `kind`, MT5 or UMT5, whose layers are gated.
    """
    import transformers

    torch.manual_seed(seed)
    fields = {"vocab_size": VOCABULARY, "d_model": 16, "d_kv": 6, "d_ff": 20, "num_heads": 4}
    config = getattr(transformers, f"{kind}Config")(
        **fields | sizes,
        num_layers=layers,
        num_decoder_layers=layers - 1,
        decoder_start_token_id=0,
        feed_forward_proj="relu" if tied and kind == "T5" else "gated-gelu",
        tie_word_embeddings=tied,
    )
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "layer_norm" in name:
                p.uniform_(0.5, 1.5)
            elif kind == "UMT5" and "relative" in name:  # all zeros as transformers makes them
                p.normal_()
        if not tied:
            # transformers 5 ties every head that it makes itself.
            head = torch.randn(config.vocab_size, config.d_model) / config.d_model**0.5
            model.lm_head.weight = torch.nn.Parameter(head)
    return model


def loss_of(logits: Tensor, target: Tokens) -> Tensor:
    return F.cross_entropy(logits, torch.tensor(target))
