"""Naive readers that tests compare against: slow, obvious, one question and one passage at a time.

Nothing here is shared with the package except names of parameters: no batch, no padding, no mask, no cache.
Three of them: `NaiveReader`, written with plain matrices; and FiD twice on top of transformers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from fidkit.config import ReaderConfig, StackConfig
from fidkit.context import Batch, collate
from fidkit.reader import Reader

Tokens = list[int]
VOCABULARY = 37

# The readers here are too small for threads to pay.
torch.set_num_threads(1)
# The same examples in every run: greedy decoding may tell two nearly equal logits apart by rounding alone.
quick = settings(max_examples=15, deadline=None, derandomize=True)


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
        if reader.reranker is not None:
            reader.reranker.weight.normal_(generator=generator)
        if not apart:
            reader.split_encoder()
        elif config.memory_layers:
            for p in reader.memory_encoder.parameters():
                p.add_(0.3 * torch.randn(p.shape, generator=generator))
            for part in (reader.question_encoder, reader.memory_encoder.encoder):
                if len(part.layers):
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


# T5 with plain matrices


class NaiveReader:
    """Any reader of the family on the parameters of a `Reader`."""

    def __init__(self, reader: Reader) -> None:
        self.config = reader.config
        self.w = dict(reader.named_parameters(remove_duplicate=False))

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
            blocks.append(self._norm(asked, "live_encoder.norm"))
        rows, sees = self._first_rows(asked, passages)
        first = 0
        if self.config.rerank:
            first, keep = self.config.rerank.after, self.config.rerank.keep
            scores = self._scores(rows)
            best = sorted(sorted(range(len(rows)), key=lambda n: -scores[n])[:keep])
            rows, sees = [rows[n] for n in best], [sees[n] for n in best]
        for row, seen in zip(rows, sees, strict=True):
            row = self._run("live_encoder", range(first, self.config.live), row, seen)
            row = self._norm(row, "live_encoder.norm")
            if self.config.question_in_context != "each":
                row = row[len(question) :]
            blocks.append(row[: self.config.kept_vectors])
        return torch.cat(blocks)

    def scores(self, question: Tokens, passages: Sequence[Tokens]) -> list[float]:
        """Of each passage, in a reader that reranks."""
        return self._scores(self._first_rows(self._question(question), passages)[0])

    def memory(self, passage: Tokens) -> Tensor:
        x = self.w["memory_encoder.embedding.weight"][passage]
        heads = (self.config.memory_encoder or self.config.encoder).heads
        return self._run("memory_encoder.encoder", range(self.config.memory_layers), x, heads=heads)

    def _question(self, question: Tokens) -> Tensor:
        layers = range(self.config.encoder.layers - self.config.live)
        return self._run("question_encoder", layers, self.w["embedding.weight"][question])

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
            rows.append(self._run("live_encoder", range(layers), row, sees[-1]))
        return rows, sees

    def _sees(self, query: str, key: str) -> bool:
        return query == key or self.config.live_attention in ("full", f"{query}-sees-{key}")

    def _scores(self, rows: Sequence[Tensor]) -> list[float]:
        means = [self._norm(row, "reranker.norm").mean(0) for row in rows]
        return [float((mean @ self.w["reranker.weight"]).detach()) for mean in means]

    def _run(
        self, name: str, layers: range, x: Tensor, seen: Tensor | None = None, heads: int | None = None
    ) -> Tensor:
        heads = heads or self.config.encoder.heads
        for number in layers:
            layer = f"{name}.layers.{number}"
            bias = self._bias(f"{name}.relative_bias.weight", len(x), bidirectional=True)
            if seen is not None:
                bias = bias.masked_fill(~seen, -1e30)
            normed = self._norm(x, f"{layer}.attention_norm")
            x = x + self._attention(f"{layer}.attention", normed, normed, bias, heads)
            x = x + self._feed_forward(f"{layer}.feed_forward", self._norm(x, f"{layer}.feed_forward_norm"))
        return x

    def _decode(self, ids: Tokens, context: Tensor) -> Tensor:
        config, x = self.config, self.w["decoder.embedding.weight"][ids]
        own, cross = config.kv_heads
        future = torch.ones(len(ids), len(ids)).triu(1) * -1e30
        for number in range(config.decoder.layers):
            layer = f"decoder.layers.{number}"
            bias = self._bias("decoder.relative_bias.weight", len(ids), bidirectional=False) + future
            normed = self._norm(x, f"{layer}.self_attention_norm")
            x = x + self._attention(f"{layer}.self_attention", normed, normed, bias, own)
            if (number + 1) % config.cross_attention_every == 0:
                normed = self._norm(x, f"{layer}.cross_attention_norm")
                none = torch.zeros(config.decoder.heads, len(ids), len(context))
                x = x + self._attention(f"{layer}.cross_attention", normed, context, none, cross)
            x = x + self._feed_forward(f"{layer}.feed_forward", self._norm(x, f"{layer}.feed_forward_norm"))
        x = self._norm(x, "decoder.norm")
        if config.tied_head:
            return x @ self.w["decoder.embedding.weight"].T / math.sqrt(config.decoder.width)
        return x @ self.w["head.linear.weight"].T

    def _attention(self, name: str, x: Tensor, context: Tensor, bias: Tensor, kv_heads: int) -> Tensor:
        q, k, v = (
            of @ self.w[f"{name}.{matrix}.weight"].T
            for matrix, of in (("query", x), ("key", context), ("value", context))
        )
        heads, mixed = len(bias), []
        width = q.shape[1] // heads
        for head in range(heads):
            shared = head // (heads // kv_heads)
            own = slice(head * width, (head + 1) * width)
            theirs = slice(shared * width, (shared + 1) * width)
            mixed.append((q[:, own] @ k[:, theirs].T + bias[head]).softmax(-1) @ v[:, theirs])
        return torch.cat(mixed, 1) @ self.w[f"{name}.out.weight"].T

    def _feed_forward(self, name: str, x: Tensor) -> Tensor:
        inner = x @ self.w[f"{name}.inner.weight"].T
        if self.config.block == "t5":
            inner = inner.clamp(min=0)
        else:
            gate = x @ self.w[f"{name}.gate.weight"].T
            cube = math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)
            inner = 0.5 * gate * (1 + torch.tanh(cube)) * inner
        return inner @ self.w[f"{name}.out.weight"].T

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * self.w[f"{name}.weight"]

    def _bias(self, name: str, length: int, *, bidirectional: bool) -> Tensor:
        config = self.config
        rows = [
            [naive_bucket(k - q, bidirectional, config.relative_buckets, config.relative_max_distance)
             for k in range(length)]
            for q in range(length)
        ]  # fmt: skip
        return self.w[name][torch.tensor(rows)].permute(2, 0, 1)


def naive_bucket(distance: int, bidirectional: bool, buckets: int, most: int) -> int:
    """T5's bucket of one distance, from key position - query position."""
    first = 0
    if bidirectional:
        buckets //= 2
        first = buckets if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(0, -distance)
    exact = buckets // 2
    if distance < exact:
        return first + distance
    # The rounding guards against 1.9999999 where the logarithms give 2.
    step = round(math.log(distance / exact) / math.log(most / exact) * (buckets - exact), 9)
    return first + min(buckets - 1, exact + int(step))


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


def hf_t5(*, tied: bool, layers: int = 3, seed: int = 0, **sizes):
    """A random transformers T5: v1.0 (tied, ReLU, scaled logits) or v1.1 (its own head, gated GELU)."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(seed)
    fields = {"vocab_size": VOCABULARY, "d_model": 16, "d_kv": 6, "d_ff": 20, "num_heads": 4}
    config = T5Config(
        **fields | sizes,
        num_layers=layers,
        num_decoder_layers=layers - 1,
        decoder_start_token_id=0,
        feed_forward_proj="relu" if tied else "gated-gelu",
        tie_word_embeddings=tied,
    )
    model = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "layer_norm" in name:
                p.uniform_(0.5, 1.5)
        if not tied:
            # transformers 5 ties every head that it makes itself.
            head = torch.randn(config.vocab_size, config.d_model) / config.d_model**0.5
            model.lm_head.weight = torch.nn.Parameter(head)
    return model


def loss_of(logits: Tensor, target: Tokens) -> Tensor:
    return F.cross_entropy(logits, torch.tensor(target))
