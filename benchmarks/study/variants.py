"""The readers of each table: how they differ from one start, and what of them is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from fidkit.records import CODECS

START = "pocket"
"""Whose encoder all readers have."""
REVISIONS = {"7124f992c2af": "409b8dc"}
"""By the weights of a start, a revision at which it is the bundled reader."""
LAYERS = 6
"""Of a decoder, unless a variant says otherwise: as many as the encoder has."""
ROW = 140
"""Vectors of an average question with its passage, which FiD-Light keeps a share of."""
BEAMS = (4, 16)


SETS = ("squad", "newwiki")
"""Development sets that decide, unless a variant says otherwise."""
OTHERS = ("nq", "webq", "triviaqa")
"""Development sets that readers are judged by beside those."""
ALPHAS = ("1/6", "1/3", "1/2")
"""Live proportions between which transfer is compared."""


@dataclass(frozen=True)
class First:
    """A training that goes before that of the table, of as many steps, in another order.

    Attributes:
        recipe: changes of the recipe, key=value.
        memory: whether the memory encoder is trained along. It is left as it is afterwards.
    """

    recipe: tuple[str, ...] = ()
    memory: bool = False


@dataclass(frozen=True)
class Variant:
    """A reader of the study.

    Attributes:
        name: of its rows.
        config: fields of `ReaderConfig` that differ from the start's; of `decoder`, those of the stack.
        live: LUMEN's live proportion; None leaves the encoder as it is and draws a decoder anew.
        recipe: changes of the recipe, key=value.
        beams: numbers of hypotheses that it is also judged with.
        memory: layers of a memory encoder of its own, the start's first; None shares the encoder's.
        codes: of each 16 dimensions of the memory, which is rounded to them; 0 leaves it as it is.
        share: of the study's steps, those that it is trained for.
        first: what it is trained on before.
        decides: development sets by whose mean it is compared.
    """

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    live: str | None = None
    recipe: tuple[str, ...] = ()
    beams: tuple[int, ...] = ()
    memory: int | None = None
    codes: int = 0
    share: Fraction = Fraction(1)
    first: First | None = None
    decides: tuple[str, ...] = SETS


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
LONGER = [
    _decoder(f"{name}-longer", 6, 1, shape, share=Fraction(3))
    for name, shape in (("mq", None), ("fido", LARGE))
]
"""A larger decoder, drawn anew as well, has more to learn."""
OPTIMISERS = [
    _decoder(f"{name}-{kind}", 6, 1, shape, recipe=(f"optimiser.kind={kind}", "optimiser.rate=0.01"))
    for kind in ("hybrid", "adafactor")
    for name, shape in (("mq", None), ("fido", LARGE))
]
WHOLE = ("optimiser.rate=1.5e-4", "optimiser.rates={ embedding = 0.0 }")
"""Of LUMEN, all is trained but words and memory. At 5e-4 the start loses what it has learnt (docs/log.md)."""


def _lumen(
    alpha: str, name: str = "", *, share: Fraction = Fraction(1), codes: int = 0, **config: Any
) -> Variant:
    """The start with its encoder split."""
    named = name or f"lumen-{dashed(alpha)}"
    return Variant(named, config, live=alpha, recipe=WHOLE, share=share, codes=codes)


def dashed(alpha: str) -> str:
    """A live proportion as names have it."""
    return alpha.replace("/", "-")


LUMEN = [_lumen(alpha) for alpha in ("0", "1/3", "1", "1/6", "1/2", "2/3")]
LUMEN_LONGER = [_lumen(alpha, f"lumen-{dashed(alpha)}-longer", share=Fraction(3)) for alpha in ("1/3", "1")]
CODES = _lumen("1/3", "lumen-1-3-codes", codes=4096)
"""Live layers and decoder learn with the codes, as MEMORY-VQ's do; the codes themselves aren't trained."""
CONDITIONING = [
    *(
        _lumen("1/3", f"lumen-1-3-{seen}", live_attention=seen)
        for seen in ("question-sees-passage", "passage-sees-question")
    ),
    _lumen("1/3", "lumen-1-3-question-frozen", frozen=("memory", "question", "embedding")),
]

MEMORIES = [Variant(f"memory-{n}", live="1/3", recipe=WHOLE, memory=n) for n in (6, 2, 3)]
"""The memory encoder of LUMEN with a third live has four layers; these have more or fewer in front of it."""
DEEPER_LONGER = Variant("memory-6-longer", live="1/3", recipe=WHOLE, memory=6, share=Fraction(3))
"""Live layers, which were trained to go on from the fourth layer, have more time to learn another memory."""

HALF = Fraction(1, 2)
WEBQ = (
    'tasks.webq={ kind = "questions", files = ["qa/train.jsonl.gz"], where = { dataset = ["webq"] }, '
    "verbatim = true }",
    "stages.0.mix={ webq = 1.0 }",
)
"""WebQuestions alone. Nobody marked their passages: a search found them, and they have the answer."""
_FIRSTS = {"": None, "-live": First(WHOLE), "-memory": First(WHOLE, memory=True)}
TRANSFER = [
    Variant(
        f"webq-{dashed(alpha)}{kind}", live=alpha, recipe=(*WHOLE, *WEBQ), share=HALF, first=first,
        decides=("webq",),
    )
    for alpha in ALPHAS for kind, first in _FIRSTS.items()
]  # fmt: skip

HYBRID = ("optimiser.kind=hybrid", "optimiser.rate=0.01")
GOING_ON = (*HYBRID, "optimiser.warmup=0")
MOMENTS = [
    _decoder(
        f"moments-{kind}", 6, 1, LARGE, recipe=(*GOING_ON, f"optimiser.moments={kind}"), share=HALF,
        first=First(HYBRID),
    )
    for kind in ("carry", "fresh")
]  # fmt: skip
"""FiDO's decoder: half of the steps, and again half, as fine-tuning goes on from pre-training."""

TABLES: dict[str, list[Variant]] = {
    "table-4": [FID, LSA[6], LIGHT[6], MQ, LSA[3], LSA[2], LIGHT[3], LIGHT[2], GQA],
    "table-3": [FIDO, FIDO_NO_LSA, FIDO_NO_MQ, MQ],
    "lumen": LUMEN,
    "lumen-longer": LUMEN_LONGER,
    "lumen-codes": [LUMEN[1], CODES],
    "lumen-conditioning": [LUMEN[1], *CONDITIONING],
    "memory-shape": [LUMEN[1], *MEMORIES],
    "memory-longer": [LUMEN_LONGER[0], DEEPER_LONGER],
    "transfer": TRANSFER,
    "figure-5": [*DEPTHS, WIDE],
    "tuned": TUNED_PAIR,
    "longer": LONGER,
    "optimisers": [MQ, FIDO, *OPTIMISERS],
    "moments": MOMENTS,
}
"""By the names of the papers' tables and figures where they have one, the most telling readers first."""


@dataclass(frozen=True)
class Shipped:
    """A reader as it comes along, in one setting: nothing is trained.

    Attributes:
        name: of its row.
        reader: a bundled one.
        codec: of the memory that it answers from.
        ranking: by what passages are ranked that words found, see `study.ranked`.
    """

    name: str
    reader: str
    codec: str = ""
    ranking: str = ""


RANKINGS = ("words", "meaning", "both", "shares", "none")
SHIPPED: dict[str, list[Shipped]] = {
    "codecs": [Shipped(f"codec-{codec}", "pocket-lumen", codec=codec) for codec in CODECS],
    "reranking": [
        Shipped(f"{reader}-by-{ranking}", reader, ranking=ranking)
        for reader in (START, "pocket-lumen", "pocket-fido")
        for ranking in RANKINGS
    ],
}
"""Tables of readers that come along."""
