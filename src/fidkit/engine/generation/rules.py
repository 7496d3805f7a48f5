"""Which token may come next, and where an answer ends."""

from __future__ import annotations

from collections.abc import Sequence

from fidkit import arrays
from fidkit.arrays import Array
from fidkit.config import ReaderConfig
from fidkit.context import IGNORED, Context
from fidkit.engine.generation.decoding import Decoding
from fidkit.errors import UsageError
from fidkit.tokens import Tokenizer

_FORBIDDEN = float("-inf")


class Loops:
    """No tokens in a row are written twice, one right after the other, unless they stand so in the context.

    Args:
        context: of B questions; without tokens (`Context.ids_BM2`) nothing stands there.
        rows: of a question, side by side.
    """

    def __init__(self, context: Context, rows: int) -> None:
        self.rows = rows
        self._texts: list[list[int]] | None = None
        self._ids_BM2, self._mask_BM = context.ids_BM2, context.mask_BM

    def withhold(self, log_probabilities_RV: Array, ids_Rt: Array) -> Array:
        """-inf for tokens that would close a circle; rows that have ended don't matter."""
        forbidden = [
            (row, token)
            for row, ids in enumerate(ids_Rt.tolist())
            for token in self._closing(row // self.rows, ids)
        ]
        if not forbidden:
            return log_probabilities_RV
        allowed = arrays.copied(log_probabilities_RV)
        allowed[tuple(zip(*forbidden, strict=True))] = _FORBIDDEN
        return allowed

    def _closing(self, question: int, ids: list[int]) -> set[int]:
        """Tokens that would make the last n tokens equal to the n before them, for any n."""
        found = set()
        for n in range(1, (len(ids) + 1) // 2 + 1):
            once = ids[len(ids) + 1 - 2 * n : len(ids) + 1 - n]
            if once[: n - 1] == ids[len(ids) + 1 - n :] and not self._stands(question, once + once):
                found.add(once[-1])
        return found - {IGNORED}

    def _stands(self, question: int, wanted: list[int]) -> bool:
        if self._ids_BM2 is None:
            return False
        if self._texts is None:
            pairs = zip(self._ids_BM2[..., 0].tolist(), self._mask_BM.tolist(), strict=True)
            self._texts = [[i if real else IGNORED for i, real in zip(*one, strict=True)] for one in pairs]
        return bool(occurrences(self._texts[question], wanted))


class Pieces:
    """Answers are pieces of the passages: each token goes on where some passage has the tokens before it.

    A question whose passages have no tokens has the empty answer.

    Args:
        context: of B questions, with tokens (`Context.ids_BM2`).
        rows: of a question, side by side.
        config: says which tokens steer, and are in no piece.

    Raises:
        UsageError: the context has no tokens.
    """

    def __init__(self, context: Context, rows: int, config: ReaderConfig) -> None:
        if context.ids_BM2 is None:
            raise UsageError(
                "answers can't be held to pieces of the passages: the reader keeps no tokens beside its "
                "states (`token_skip`); ask with extractive off"
            )
        ids_BM, inside_BM = context.ids_BM2[..., 0], context.mask_BM & (context.token_BM >= 0)
        for steering in (config.pad_token, config.end_token, config.start_token):
            if steering is not None:
                inside_BM = inside_BM & (ids_BM != steering)
        # Each passage counts its tokens from 0 on, so that none goes on in the next one.
        follows_BM = inside_BM & False
        follows_BM[:, 1:] = context.token_BM[:, 1:] == context.token_BM[:, :-1] + 1
        self.end_token = config.end_token
        self._ids_RM, self._inside_RM, self._follows_RM = (
            arrays.repeated(part, rows) for part in (ids_BM, inside_BM, follows_BM & inside_BM)
        )

    def withhold(self, log_probabilities_RV: Array, ids_Rt: Array, end_R: Array) -> Array:
        """-inf for tokens that would leave every passage; rows that have ended don't matter.

        Where no passage goes on, the answer may end, whatever was withheld: with log-probability `end_R`.
        """
        next_RM = self._inside_RM
        for written_R in ids_Rt.T:
            here_RM = next_RM & (self._ids_RM == written_R[:, None])
            next_RM = here_RM & False
            next_RM[:, 1:] = here_RM[:, :-1] & self._follows_RM[:, 1:]
        forbidden_RV = arrays.full(log_probabilities_RV.shape, 1, log_probabilities_RV, "bool")
        arrays.placed(forbidden_RV, arrays.masked(self._ids_RM, ~next_RM, self.end_token), False)
        forbidden_RV[:, self.end_token] = False
        allowed_RV = arrays.masked(log_probabilities_RV, forbidden_RV, _FORBIDDEN)
        stuck_R = ~next_RM.any(1)
        allowed_RV[:, self.end_token] = arrays.where(stuck_R, end_R, allowed_RV[:, self.end_token])
        return allowed_RV


def occurrences(tokens: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """Starts of `wanted` in `tokens`; none if `wanted` is empty."""
    n = len(wanted)
    if not n:
        return []
    wanted, tokens = list(wanted), list(tokens)
    return [i for i in range(len(tokens) - n + 1) if tokens[i] == wanted[0] and tokens[i : i + n] == wanted]


class Rules:
    """`Decoding`'s limits on one run. R rows, of t tokens so far.

    Args:
        decoding: minimum, stops, repetition.
        end_token: the end of sequence.
        like: an array where the tokens are.
        tokenizer: for stops that are texts.
        loops: keeps answers from going round in circles; None lets them.
        pieces: keeps answers to pieces of the passages; None lets them be what they will.

    Raises:
        UsageError: stop texts without a tokenizer.
    """

    def __init__(
        self,
        decoding: Decoding,
        end_token: int,
        like: Array,
        tokenizer: Tokenizer | None,
        loops: Loops | None = None,
        pieces: Pieces | None = None,
    ) -> None:
        self.loops, self.pieces = loops, pieces
        self.min_tokens, self.ngram, self.end_token = decoding.min_tokens, decoding.no_repeat_ngram, end_token
        self.sequences = [arrays.made(s, like) for s in decoding.stop if not isinstance(s, str)]
        self.texts = [s for s in decoding.stop if isinstance(s, str)]
        self.tokenizer = tokenizer
        if self.texts and tokenizer is None:
            raise UsageError(
                f"stop has the text {self.texts[0]!r}, but there is no tokenizer to find it with; "
                "give a tokenizer, or the stop as a tuple of tokens"
            )

    @classmethod
    def of(
        cls, config: ReaderConfig, context: Context, decoding: Decoding, tokenizer: Tokenizer | None = None
    ) -> Rules:
        """The rules of answers to the questions of a context."""
        let = decoding.loops if decoding.loops is not None else not config.token_skip
        loops = None if let else Loops(context, decoding.rows)
        held = config.extractive if decoding.extractive is None else decoding.extractive
        pieces = Pieces(context, decoding.rows, config) if held else None
        return cls(decoding, config.end_token, context.mask_BM, tokenizer, loops, pieces)

    def withhold(self, log_probabilities_RV: Array, ids_Rt: Array) -> Array:
        """The log-probabilities with -inf for tokens that may not follow `ids_Rt`; not normalised again."""
        allowed = log_probabilities_RV
        if ids_Rt.shape[1] < self.min_tokens:
            allowed = arrays.copied(allowed)
            allowed[:, self.end_token] = _FORBIDDEN
        if self.ngram and ids_Rt.shape[1] >= self.ngram:
            allowed = arrays.masked(allowed, self._repeats(ids_Rt, allowed.shape[1]), _FORBIDDEN)
        if self.pieces is not None:
            allowed = self.pieces.withhold(allowed, ids_Rt, log_probabilities_RV[:, self.end_token])
        if self.loops is not None:
            allowed = self.loops.withhold(allowed, ids_Rt)
        return allowed

    def _repeats(self, ids_Rt: Array, vocabulary: int) -> Array:
        """Mask [R, V] of the tokens that would complete an n-gram for the second time."""
        places = [slice(i, ids_Rt.shape[1] - self.ngram + 1 + i) for i in range(self.ngram)]
        ngrams_RSn = arrays.stack([ids_Rt[:, place] for place in places], 2)
        begun_R1n = ids_Rt[:, None, ids_Rt.shape[1] - self.ngram + 1 :]
        seen_RS = (ngrams_RSn[..., :-1] == begun_R1n).all(-1)
        completed_RS = ngrams_RSn[..., -1].clip(min=0)  # rows that have ended hold IGNORED, and don't matter
        counts = arrays.full((len(ids_Rt), vocabulary), 0, ids_Rt, "int32")
        return arrays.added(counts, completed_RS, arrays.typed(seen_RS, "int32")) > 0

    def ended(self, ids_Rt: Array) -> Array:
        """Mask [R] of the answers that end with their last token."""
        ended_R = ids_Rt[:, -1] == self.end_token
        for sequence in self.sequences:
            if ids_Rt.shape[1] >= len(sequence):
                ended_R = ended_R | (ids_Rt[:, -len(sequence) :] == sequence).all(1)
        return ended_R | self._stopped(ids_Rt) if self.texts else ended_R

    def _stopped(self, ids_Rt: Array) -> Array:
        # A token is part of a text only together with its neighbours, hence the text as a whole.
        assert self.tokenizer is not None
        rows = [[i for i in row if i != IGNORED] for row in ids_Rt.tolist()]
        texts = self.tokenizer.backend.decode_batch(rows, skip_special_tokens=True)
        found = [any(stop in text for stop in self.texts) for text in texts]
        return arrays.made(found, ids_Rt)
