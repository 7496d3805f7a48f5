"""How much each passage had to do with an answer, and where in it the decoder looked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fidkit import arrays
from fidkit.arrays import Array
from fidkit.config import ReaderConfig
from fidkit.context import Context, Sight
from fidkit.engine.generation.generate import Generated
from fidkit.engine.signals import of_tokens


class Looks(Protocol):
    """What can say where it looked."""

    @property
    def config(self) -> ReaderConfig: ...

    def look(self, ids_BT: Array, context: Context) -> Sight:
        """What it makes of answers as it wrote them, `IGNORED` behind their ends."""
        ...


@dataclass(frozen=True)
class Looked:
    """What the decoder looked at while it wrote.

    Attributes:
        shares: [B][passages], of each passage in the answer; a question's sum to 1.
        tokens: [B][passages], the token of each passage that was looked at most when the answer began; None
            where no vector of it is in the context.
        signals: [B], of the answer's tokens (`fidkit.calibration.SIGNALS`).
    """

    shares: list[list[float]]
    tokens: list[list[int | None]]
    signals: list[dict[str, float]]


def look_back(source: Looks, context: Context, generated: Generated, passages: int) -> Looked:
    """Shares and tokens of each passage, and how sure the decoder was.

    Where the reader reranks, shares are the softmax of its scores, which counts the passages that it left
    behind. Else they are the attention mass that the answer's tokens put on the vectors of a passage (the
    question's in front of it included), averaged over heads, answer tokens and the layers that have
    cross-attention. Mass on a question block that belongs to no passage is left out. The token that was
    looked at most is that of the last such layer, over all heads.
    """
    passages = max(1, passages)
    ids_BT = generated.ids_BT
    sight = source.look(ids_BT, context)
    signals = of_tokens(sight.logits_BTV, ids_BT, source.config.end_token)
    tokens = _most_looked_at(context, sight.first_BM, passages)
    if context.scores_BN is not None:
        return Looked(arrays.softmax(context.scores_BN).tolist(), tokens, signals)
    mass_BM = arrays.masked(sight.mass_BM, context.passage_BM < 0, 0.0)
    shares_BN = arrays.full((len(mass_BM), passages), 0.0, mass_BM)
    shares_BN = arrays.added(shares_BN, context.passage_BM.clip(min=0), mass_BM)
    shares_BN = shares_BN / shares_BN.sum(1)[:, None].clip(min=1e-30)
    return Looked(shares_BN.tolist(), tokens, signals)


def _most_looked_at(context: Context, first_BM: Array, passages: int) -> list[list[int | None]]:
    real_BM = (context.passage_BM >= 0) & (context.token_BM >= 0)
    place_BM = arrays.masked(context.passage_BM, ~real_BM, passages)
    most_BN = arrays.full((len(first_BM), passages + 1), -1.0, first_BM)
    most_BN = arrays.raised(most_BN, place_BM, first_BM)
    is_most_BM = real_BM & (first_BM == arrays.gather(most_BN, place_BM, 1))
    token_BN = arrays.full((len(first_BM), passages + 1), -1, first_BM, "int64")
    token_BN = arrays.raised(token_BN, place_BM, arrays.masked(context.token_BM, ~is_most_BM, -1))
    return [[token if token >= 0 else None for token in row[:passages]] for row in token_BN.tolist()]
