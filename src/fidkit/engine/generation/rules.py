"""Which token may come next, and where an answer ends."""

from __future__ import annotations

import torch
from torch import Tensor

from fidkit.context import IGNORED
from fidkit.engine.generation.decoding import Decoding
from fidkit.errors import UsageError
from fidkit.tokens import Tokenizer

_FORBIDDEN = float("-inf")


class Rules:
    """`Decoding`'s limits on one run. R rows, of t tokens so far.

    Args:
        decoding: minimum, stops, repetition.
        end_token: the end of sequence.
        device: where the tokens are.
        tokenizer: for stops that are texts.

    Raises:
        UsageError: stop texts without a tokenizer.
    """

    def __init__(
        self, decoding: Decoding, end_token: int, device: torch.device, tokenizer: Tokenizer | None
    ) -> None:
        self.min_tokens, self.ngram, self.end_token = decoding.min_tokens, decoding.no_repeat_ngram, end_token
        self.sequences = [torch.tensor(s, device=device) for s in decoding.stop if not isinstance(s, str)]
        self.texts = [s for s in decoding.stop if isinstance(s, str)]
        self.tokenizer = tokenizer
        if self.texts and tokenizer is None:
            raise UsageError(
                f"stop has the text {self.texts[0]!r}, but there is no tokenizer to find it with; "
                "give a tokenizer, or the stop as a tuple of tokens"
            )

    def withhold(self, log_probabilities_RV: Tensor, ids_Rt: Tensor) -> Tensor:
        """The log-probabilities with -inf for tokens that may not follow `ids_Rt`; not normalised again."""
        allowed = log_probabilities_RV
        if ids_Rt.shape[1] < self.min_tokens:
            allowed = allowed.clone()
            allowed[:, self.end_token].fill_(_FORBIDDEN)
        if self.ngram and ids_Rt.shape[1] >= self.ngram:
            allowed = allowed.masked_fill(self._repeats(ids_Rt, allowed.shape[1]), _FORBIDDEN)
        return allowed

    def _repeats(self, ids_Rt: Tensor, vocabulary: int) -> Tensor:
        """Mask [R, V] of the tokens that would complete an n-gram for the second time."""
        ngrams_RSn = ids_Rt.unfold(1, self.ngram, 1)
        begun_R1n = ids_Rt[:, None, ids_Rt.shape[1] - self.ngram + 1 :]
        seen_RS = (ngrams_RSn[..., :-1] == begun_R1n).all(-1)
        completed_RS = ngrams_RSn[..., -1].clamp(min=0)  # rows that have ended hold IGNORED, and don't matter
        counts = torch.zeros(len(ids_Rt), vocabulary, dtype=torch.int32, device=ids_Rt.device)
        return counts.scatter_add_(1, completed_RS, seen_RS.int()) > 0

    def ended(self, ids_Rt: Tensor) -> Tensor:
        """Mask [R] of the answers that end with their last token."""
        ended_R = ids_Rt[:, -1] == self.end_token
        for sequence in self.sequences:
            if ids_Rt.shape[1] >= len(sequence):
                ended_R = ended_R | (ids_Rt[:, -len(sequence) :] == sequence).all(1)
        return ended_R | self._stopped(ids_Rt) if self.texts else ended_R

    def _stopped(self, ids_Rt: Tensor) -> Tensor:
        # A token is part of a text only together with its neighbours, hence the text as a whole.
        assert self.tokenizer is not None
        rows = [[i for i in row if i != IGNORED] for row in ids_Rt.tolist()]
        texts = self.tokenizer.backend.decode_batch(rows, skip_special_tokens=True)
        found = [any(stop in text for stop in self.texts) for text in texts]
        return torch.tensor(found, device=ids_Rt.device)
