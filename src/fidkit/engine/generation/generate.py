"""Generation, step by step: the plain loops that faster engines are tested against."""

from __future__ import annotations

import torch
from torch import Tensor

from fidkit.context import IGNORED, Context
from fidkit.engine.generation.beam import beam_search
from fidkit.engine.generation.decoding import GREEDY, Decoding
from fidkit.engine.generation.rules import Rules
from fidkit.engine.generation.sampling import draw, noise
from fidkit.engine.generation.steps import C, Cache, Generated, Steps, Watch, time_to_look
from fidkit.engine.schedule.room import check_room
from fidkit.tokens import Tokenizer


@torch.inference_mode()
def generate(
    source: Steps[C],
    context: Context,
    decoding: Decoding = GREEDY,
    watch: Watch | None = None,
    tokenizer: Tokenizer | None = None,
) -> Generated:
    """Write answers to the B questions of a context.

    Args:
        source: a reader in eval mode, or a runner of one.
        context: of B questions.
        decoding: greedy, beam search or sampling, and its limits.
        watch: sees the tokens [B] of each step as they come. Where several rows of a question are written
            side by side (beams, `n_best` samples), which is best is known at the end: then it sees the
            tokens of the best rows, one column after the other.
        tokenizer: finds the stops that are texts.

    Raises:
        UsageError: stop texts without a tokenizer, or answers that don't fit into memory.
    """
    check_room(source.config, context, decoding)
    rules = Rules.of(source.config, context, decoding, tokenizer)
    if decoding.rows == 1:
        return _one_by_one(source, context, decoding, rules, watch)
    if decoding.samples:
        generated = _one_by_one(source, context, decoding, rules, None).ranked()
    else:
        generated = beam_search(source, context, decoding, rules)
    if watch is not None:
        for ids_B in generated.best.ids_BT.unbind(1):
            watch(ids_B)
    return generated


def greedy(source: Steps[C], context: Context, max_tokens: int = 32, watch: Watch | None = None) -> Generated:
    """`generate` with the likeliest next token, again and again, until every question has ended."""
    return generate(source, context, Decoding(max_tokens=max_tokens), watch)


def _one_by_one(
    source: Steps[C], context: Context, decoding: Decoding, rules: Rules, watch: Watch | None
) -> Generated:
    """Rows that go their own ways: greedy, or samples in the order they are drawn."""
    device, B = context.states_BMD.device, len(context.states_BMD)
    N, T = B * decoding.rows, decoding.max_tokens
    uniform_NT = noise(decoding, B, device) if decoding.samples else None
    cache = source.start(context, T, decoding.rows)
    ids_NT = torch.full((N, T), IGNORED, device=device)
    log_probabilities_NT = torch.zeros(N, T, device=device)
    last_N = torch.full((N,), source.config.pad_token, device=device)
    running_N = torch.ones(N, dtype=torch.bool, device=device)
    for t in range(T):
        log_probabilities_NV = source.step(last_N, cache).log_softmax(-1)
        allowed_NV = rules.withhold(log_probabilities_NV, ids_NT[:, :t])
        last_N = allowed_NV.argmax(-1) if uniform_NT is None else draw(allowed_NV, uniform_NT[:, t], decoding)
        ids_NT[:, t] = last_N.masked_fill(~running_N, IGNORED)
        log_probabilities_NT[:, t] = _of(log_probabilities_NV, last_N).masked_fill(~running_N, 0.0)
        if watch is not None:
            watch(ids_NT[:, t])
        running_N = running_N & ~rules.ended(ids_NT[:, : t + 1])
        if time_to_look(t, device) and not running_N.any():
            break
    return Generated(ids_NT, log_probabilities_NT, decoding.n_best, decoding.length_penalty).trimmed()


def _of(log_probabilities_NV: Tensor, ids_N: Tensor) -> Tensor:
    return log_probabilities_NV.gather(1, ids_N[:, None])[:, 0]


__all__ = ["Cache", "Generated", "Steps", "Watch", "generate", "greedy"]
