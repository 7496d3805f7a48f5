"""Distillation: a reader learns what a teacher would write (Hinton et al. 2015; Kim and Rush 2016).

By the token: at every place of a target, the reader's distribution over the vocabulary should be the
teacher's. By the sequence: the target itself is the teacher's greedy answer. By the states: what the reader's
encoder leaves for the decoder should be what the teacher's does, so that one decoder reads both. The teacher
reads the very tokens that the reader reads, so both need one vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fidkit.config import ReaderConfig
from fidkit.context import Batch, Context
from fidkit.engine.generation.generate import greedy
from fidkit.errors import ConfigError
from fidkit.reader import Reader
from fidkit.tokens import PASSAGE_FILE, Tokenizer
from fidkit.train.data.examples import Example, collate_examples


class Teacher:
    """A trained reader that another one learns from. It is never trained itself and never drops out.

    Args:
        reader: the teacher.
        student: that learns; the teacher goes to its device.
        name: of the teacher, for messages.

    Raises:
        ConfigError: the two don't have one vocabulary.
    """

    def __init__(self, reader: Reader, student: Reader, name: str = "teacher") -> None:
        _check_vocabulary(reader, student, name)
        self.reader = reader.eval().requires_grad_(False).to(student.embedding.weight.device)

    @torch.no_grad()
    def read(self, batch: Batch) -> Context:
        """What the teacher's decoder reads."""
        return self.reader.read(batch)

    @torch.no_grad()
    def logits(self, batch: Batch, context: Context) -> Tensor:
        """Logits [B, T, V] (float32) of every target token given those before it, of what it has read."""
        assert batch.labels is not None
        return self.reader.decode(batch.labels, context)

    def answers(self, examples: Sequence[Example], target_tokens: int) -> list[Example]:
        """The examples with the teacher's greedy answers as targets.

        An example keeps its own where the teacher has not ended after `target_tokens` tokens, and where
        there is no question: what is missing in a text is known.
        """
        asked = [number for number, example in enumerate(examples) if example.question]
        taught = list(examples)
        if not asked:
            return taught
        batch = collate_examples([examples[number] for number in asked])
        with torch.inference_mode():
            context = self.reader.read(batch.to(self.reader.embedding.weight.device))
            written = greedy(self.reader, context, target_tokens).ids_BT.tolist()
        for number, row in zip(asked, written, strict=True):
            target = [token for token in row if token >= 0]
            if target and target[-1] == self.reader.config.end_token:
                taught[number] = replace(examples[number], target=target)
        return taught


def _check_vocabulary(teacher: Reader, student: Reader, name: str) -> None:
    theirs, ours = (_tokens(reader.tokenizer) for reader in (teacher, student))
    if not theirs:
        raise ConfigError(
            f"teacher {name}: has no tokenizer.json with tokens in it, so that nobody knows what its logits "
            "are of; add the one it was trained with"
        )
    if theirs != ours:
        shared = sum(ours.get(token) == number for token, number in theirs.items())
        raise ConfigError(
            f"teacher {name}: has another vocabulary ({len(theirs):,} tokens, the reader {len(ours):,}; "
            f"{shared:,} are the same); choose a teacher with the reader's tokenizer.json"
        )
    ends = [(reader.config.pad_token, reader.config.end_token) for reader in (teacher, student)]
    if ends[0] != ends[1]:
        raise ConfigError(
            f"teacher {name}: its padding and end of sequence are tokens {ends[0]}, the reader's {ends[1]}; "
            "choose a teacher with the reader's"
        )
    if _passage_tokens(teacher) != _passage_tokens(student):
        raise ConfigError(
            f"teacher {name}: its passages have another vocabulary; choose one with the reader's "
            f"{PASSAGE_FILE}"
        )


def _passage_tokens(reader: Reader) -> tuple[dict[str, int], int]:
    own = reader.tokenizer.passage_backend.get_vocab() if reader.tokenizer else {}
    return own, reader.config.passage_end_token


def _tokens(tokenizer: Tokenizer | None) -> dict[str, int]:
    return {} if tokenizer is None else tokenizer.backend.get_vocab()


def check_states(teacher: ReaderConfig, student: ReaderConfig, passages: int) -> None:
    """Refuse a teacher whose context has other vectors than the reader's.

    Args:
        teacher: of the reader that is learnt from.
        student: of the reader that learns.
        passages: that are read for a question, at most; a reader that reranks has to keep all of them.

    Raises:
        ConfigError: names the first knob that makes the difference.
    """
    for name in ("question_in_context", "kept_vectors"):
        theirs, ours = getattr(teacher, name), getattr(student, name)
        if theirs != ours:
            raise ConfigError(
                f"states of the teacher: {name} is {theirs} there and {ours} here, so that the decoders read "
                "other vectors; choose a teacher with the reader's"
            )
    for whose, rerank in (("the teacher", teacher.rerank), ("the reader", student.rerank)):
        if rerank is not None and rerank.keep < passages:
            raise ConfigError(
                f"states of the teacher: of {passages} passages {whose} keeps {rerank.keep}, perhaps others "
                "than the other does; convert it to keep all (--rerank-keep)"
            )
    if teacher.encoder.width != student.encoder.width:
        raise ConfigError(
            f"states of the teacher are {teacher.encoder.width} wide, the reader's {student.encoder.width}; "
            "choose a teacher of that width"
        )


def state_distillation(context: Context, wanted: Context, width: int) -> Tensor:
    """Mean squared distance of the reader's states from the teacher's, over vectors, then over questions.

    Args:
        context: of B questions, as the reader's decoder reads it.
        wanted: the teacher's of the same questions.
        width: of an encoder's states, in front of what a decoder reads beside them.
    """
    assert torch.equal(context.mask_BM, wanted.mask_BM)
    ours, theirs = (c.states_BMD[..., :width].float() for c in (context, wanted))
    distance_BM = (ours - theirs).square().mean(-1).masked_fill(~context.mask_BM, 0)
    return (distance_BM.sum(1) / context.mask_BM.sum(1)).mean()


def token_distillation(logits_KV: Tensor, wanted_KV: Tensor, temperature: float = 1.0) -> Tensor:
    """Summed KL divergence of the reader's distributions from the teacher's, in nats.

    Both are softmax(logits / temperature); times the square of the temperature, so that gradients stay as
    large as those of the answer's loss (Hinton et al. 2015). Where one has more logits than the other, they
    are padding of the vocabulary and left out.

    Args:
        logits_KV: the reader's, of K target tokens.
        wanted_KV: the teacher's, without gradient.
        temperature: above 1, unlikely tokens count more.
    """
    width = min(logits_KV.shape[-1], wanted_KV.shape[-1])
    ours, wanted = ((x[..., :width].float() / temperature).log_softmax(-1) for x in (logits_KV, wanted_KV))
    return temperature**2 * (wanted.exp() * (wanted - ours)).sum()
