"""Generation, step by step: the plain loops that faster engines are tested against."""

from __future__ import annotations

from fidkit import arrays
from fidkit.arrays import Array
from fidkit.config import ReaderConfig
from fidkit.context import IGNORED, Context
from fidkit.engine.generation.beam import searching_beams
from fidkit.engine.generation.decoding import GREEDY, Decoding
from fidkit.engine.generation.rules import Rules
from fidkit.engine.generation.sampling import draw, noise
from fidkit.engine.generation.steps import (
    C,
    Cache,
    Generated,
    Steps,
    Stepwise,
    Watch,
    next_log_probabilities,
    time_to_look,
    whole,
)
from fidkit.engine.schedule.room import check_room
from fidkit.tokens import Tokenizer


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
        CheckpointError: weights so large that what comes out are no numbers.
    """
    return whole(generating(source, context, decoding, watch, tokenizer))


def generating(
    source: Steps[C],
    context: Context,
    decoding: Decoding = GREEDY,
    watch: Watch | None = None,
    tokenizer: Tokenizer | None = None,
) -> Stepwise[Generated]:
    """`generate`, with a pause after each step."""
    check_room(source.config, context, decoding)
    rules = Rules.of(source.config, context, decoding, tokenizer)
    with arrays.without_gradients(context.mask_BM):
        if decoding.rows == 1:
            return (yield from _one_by_one(source, context, decoding, rules, watch))
        if decoding.samples:
            generated = (yield from _one_by_one(source, context, decoding, rules, None)).ranked()
        else:
            generated = yield from searching_beams(source, context, decoding, rules)
        if watch is not None:
            for ids_B in generated.best.ids_BT.T:
                watch(ids_B)
        return generated


def greedy(source: Steps[C], context: Context, max_tokens: int = 32, watch: Watch | None = None) -> Generated:
    """`generate` with the likeliest next token, again and again, until every question has ended."""
    return generate(source, context, Decoding(max_tokens=max_tokens), watch)


def cut_off(
    config: ReaderConfig,
    context: Context,
    generated: Generated,
    decoding: Decoding,
    tokenizer: Tokenizer | None = None,
) -> list[bool]:
    """Of the best answer to each question, whether it had all its tokens before it came to an end."""
    best = generated.best
    if best.ids_BT.shape[1] < decoding.max_tokens:
        return [False] * len(best.ids_BT)
    rules = Rules(decoding, config.end_token, context.mask_BM, tokenizer)
    full_B = best.lengths == decoding.max_tokens
    cut: list[bool] = (full_B & ~rules.ended(best.ids_BT)).tolist()
    return cut


def _one_by_one(
    source: Steps[C], context: Context, decoding: Decoding, rules: Rules, watch: Watch | None
) -> Stepwise[Generated]:
    """Rows that go their own ways: greedy, or samples in the order they are drawn."""
    like, B = context.mask_BM, len(context.mask_BM)
    N, T = B * decoding.rows, decoding.max_tokens
    uniform_NT = noise(decoding, B, like) if decoding.samples else None
    cache = source.start(context, T, decoding.rows)
    ids_NT = arrays.full((N, T), IGNORED, like, "int64")
    log_probabilities_NT = arrays.full((N, T), 0.0, like)
    last_N = arrays.full((N,), source.config.pad_token, like, "int64")
    running_N = last_N == last_N
    for t in range(T):
        log_probabilities_NV = next_log_probabilities(source, last_N, cache, t)
        allowed_NV = rules.withhold(log_probabilities_NV, ids_NT[:, :t])
        last_N = allowed_NV.argmax(-1) if uniform_NT is None else draw(allowed_NV, uniform_NT[:, t], decoding)
        ids_NT[:, t] = arrays.masked(last_N, ~running_N, IGNORED)
        log_probabilities_NT[:, t] = arrays.masked(_of(log_probabilities_NV, last_N), ~running_N, 0.0)
        if watch is not None:
            watch(ids_NT[:, t])
        running_N = running_N & ~rules.ended(ids_NT[:, : t + 1])
        if time_to_look(t, like) and not running_N.any():
            break
        yield
    return Generated(ids_NT, log_probabilities_NT, decoding.n_best, decoding.length_penalty).trimmed()


def _of(log_probabilities_NV: Array, ids_N: Array) -> Array:
    return arrays.gather(log_probabilities_NV, ids_N[:, None], 1)[:, 0]


__all__ = ["Cache", "Generated", "Steps", "Watch", "cut_off", "generate", "generating", "greedy"]
