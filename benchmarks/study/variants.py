"""The readers of each table: how they differ from one start, and what of them is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

START = "pocket"
"""Whose encoder all readers have."""
LAYERS = 6
"""Of a decoder, unless a variant says otherwise: as many as the encoder has."""
ROW = 140
"""Vectors of an average question with its passage, which FiD-Light keeps a share of."""
BEAMS = (4, 16)


@dataclass(frozen=True)
class Variant:
    """A reader of the study.

    Attributes:
        name: of its rows.
        config: fields of `ReaderConfig` that differ from the start's; of `decoder`, those of the stack.
        live: LUMEN's live proportion; None leaves the encoder as it is and draws a decoder anew.
        recipe: changes of the recipe, key=value.
        beams: numbers of hypotheses that it is also judged with.
    """

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    live: str | None = None
    recipe: tuple[str, ...] = ()
    beams: tuple[int, ...] = ()


def _decoder(
    name: str,
    every: int = 1,
    kv_heads: int | None = None,
    stack: Mapping[str, int] | None = None,
    *,
    kept: int | None = None,
    **more: Any,
) -> Variant:
    """A reader with a new decoder: cross-attention in every so many layers, and so on."""
    config = {
        "decoder": {"layers": LAYERS, **(stack or {})}, "cross_attention_every": every,
        "self_kv_heads": kv_heads, "cross_kv_heads": kv_heads, "kept_vectors": kept,
    }  # fmt: skip
    return Variant(name, config, **more)


LARGE = {"layers": 12, "heads": 12, "feed_forward": 2048}
"""FiDO's decoder, two sizes above: twice as deep, and twice as wide inside. It writes the encoder's words, so
that the stream between its layers is as wide as the encoder's."""
TUNED = ("optimiser.rates={ embedding = 0.0, encoder = 0.1, auxiliary = 0.5 }",)

FID = _decoder("fid")
LSA = {k: _decoder(f"lsa-{k}", k) for k in (6, 3, 2)}
LIGHT = {k: _decoder(f"light-{k}", kept=ROW // k) for k in (6, 3, 2)}
MQ = _decoder("mq", 6, 1, beams=BEAMS)
GQA = _decoder("gqa", 6, 2)
FIDO = _decoder("fido", 6, 1, LARGE)
FIDO_NO_LSA = _decoder("fido-no-lsa", 1, 1, LARGE)
FIDO_NO_MQ = _decoder("fido-no-mq", 6, None, LARGE)
DEPTHS = [_decoder(f"depth-{n}", 2, 1, {"layers": n}, beams=BEAMS if n < 12 else ()) for n in (2, 4, 6, 12)]
WIDE = _decoder("wide", 2, 1, {"heads": 12, "feed_forward": 2048})
TUNED_PAIR = [
    _decoder("lsa-6-tuned", 6, recipe=TUNED), _decoder("light-6-tuned", kept=ROW // 6, recipe=TUNED),
]  # fmt: skip
OPTIMISERS = [
    _decoder(f"{name}-{kind}", 6, 1, shape, recipe=(f"optimiser.kind={kind}", "optimiser.rate=0.01"))
    for kind in ("hybrid", "adafactor")
    for name, shape in (("mq", None), ("fido", LARGE))
]
WHOLE = ("optimiser.rate=5e-4", "optimiser.rates={ embedding = 0.0 }")
"""Of LUMEN, all is trained but words and memory."""


def _lumen(alpha: str, name: str = "", **config: Any) -> Variant:
    """The start with its encoder split."""
    return Variant(name or f"lumen-{alpha.replace('/', '-')}", config, live=alpha, recipe=WHOLE)


LUMEN = [_lumen(alpha) for alpha in ("0", "1/3", "1", "1/6", "1/2")]
CONDITIONING = [
    *(
        _lumen("1/3", f"lumen-1-3-{seen}", live_attention=seen)
        for seen in ("question-sees-passage", "passage-sees-question")
    ),
    _lumen("1/3", "lumen-1-3-question-frozen", frozen=("memory", "question", "embedding")),
]

TABLES: dict[str, list[Variant]] = {
    "table-4": [FID, LSA[6], LIGHT[6], MQ, LSA[3], LSA[2], LIGHT[3], LIGHT[2], GQA],
    "table-3": [FIDO, FIDO_NO_LSA, FIDO_NO_MQ, MQ],
    "lumen": LUMEN,
    "lumen-conditioning": [LUMEN[1], *CONDITIONING],
    "figure-5": [*DEPTHS, WIDE],
    "tuned": TUNED_PAIR,
    "optimisers": [MQ, FIDO, *OPTIMISERS],
}
"""By the names of the papers' tables and figures where they have one, the most telling readers first."""
