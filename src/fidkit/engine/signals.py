"""What an answer's probability, its passages and its words say of whether it is right.

The names are those of `fidkit.calibration.SIGNALS`, which says what each is.
"""

from __future__ import annotations

import math
import re

from fidkit import arrays
from fidkit.arrays import Array
from fidkit.context import IGNORED
from fidkit.types import Evidence

_WORD = re.compile(r"\w+")
_STEM = 5
"""Words count as equal that begin with the same letters: so many are a crude stem in any language."""
_SHORTEST = 4
"""Shorter words of a question seldom say what it is about."""


def of_tokens(logits_BTV: Array, ids_BT: Array, end_token: int) -> list[dict[str, float]]:
    """Signals of B answers' tokens.

    Args:
        logits_BTV: of every token given the ones before it.
        ids_BT: the answers, the end of sequence included, then `IGNORED`.
        end_token: the end of sequence.
    """
    log_probabilities_BTV = arrays.log_softmax(logits_BTV)
    real_BT = ids_BT != IGNORED
    of_ids_BT = arrays.gather(log_probabilities_BTV, ids_BT.clip(min=0)[..., None], 2)[..., 0]
    of_ids_BT = arrays.masked(of_ids_BT, ~real_BT, 0.0)
    lengths_B = arrays.typed(real_BT.sum(1).clip(min=1), "float32")
    first_BV = log_probabilities_BTV[:, 0]
    end_B = first_BV[:, end_token].clip(max=-1e-6)
    others_BV = arrays.copied(first_BV)
    others_BV[:, end_token] = -math.inf
    best_B2, _ = arrays.largest(others_BV, 2)
    columns = {
        "end": end_B - arrays.log(-arrays.expm1(end_B)),
        "likelihood": of_ids_BT.sum(1) / lengths_B,
        "least": -arrays.largest(-of_ids_BT, 1)[0][:, 0],
        "margin": best_B2[:, 0] - best_B2[:, 1],
        "length": arrays.log(lengths_B),
    }
    values = arrays.stack([arrays.typed(column, "float32") for column in columns.values()], 1)
    return [dict(zip(columns, row, strict=True)) for row in values.tolist()]


def of_words(
    question: str, answer: str, evidence: tuple[Evidence, ...], *, verbatim: bool
) -> dict[str, float]:
    """Signals of an answer's passages and of its words."""
    having = [e for e in evidence if e.place is not None]
    found = {
        "passages": math.log(1 + len(evidence)),
        "agreement": math.log(1 + len(having)),
        "verbatim": float(verbatim),
        "share": max((e.score for e in evidence), default=0.0),
    }
    asked, given = _stems(question, _SHORTEST), _stems(answer, 1)
    if given:
        found["repeated"] = len(given & _stems(question, 1)) / len(given)
    if asked and evidence:
        passage = (having or evidence)[0].passage
        found["overlap"] = len(asked & _stems(f"{passage.title} {passage.text}", 1)) / len(asked)
    if asked and having:
        found["nearness"] = len(asked & _stems(having[0].sentence, 1)) / len(asked)
    return found


def _stems(text: str, shortest: int) -> set[str]:
    return {word[:_STEM] for word in _WORD.findall(text.casefold()) if len(word) >= shortest}
