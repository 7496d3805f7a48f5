"""What the papers find of quality, and what the rows of the study say of each finding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from study import facts
from study.variants import ALPHAS as TRANSFERRED
from study.variants import BEAMS, dashed
from study.variants import DEPTHS as VARIANTS_BY_DEPTH

from render.study.groups import BUDGETS, Group
from render.study.verdicts import (
    OPEN,
    BySeed,
    Right,
    Verdict,
    about_as_good,
    answers_as_well,
    answers_worse,
    clearly_worse,
    growing,
)

Groups = Mapping[str, Group]
ALPHAS = ("0", "1/6", "1/3", "1/2", "2/3", "1")


@dataclass(frozen=True)
class Finding:
    """Something that a paper says.

    Attributes:
        where: paper, and table or figure.
        claim: in words.
        theirs: the paper's numbers; empty where only the statement is known.
        judge: what our rows say.
        skipped: why nothing was tried; then there is nothing to judge.
    """

    where: str
    claim: str
    theirs: str = ""
    judge: Callable[[Groups], Verdict] | None = None
    skipped: str = ""


def lumen(alpha: str) -> str:
    """The name of LUMEN's rows at a live proportion."""
    return f"lumen-{dashed(alpha)}"


def _em(groups: Groups, name: str) -> BySeed:
    return groups[name].em() if name in groups else {}


def _right(groups: Groups, name: str) -> Right:
    return groups[name].right() if name in groups else {}


def _good(one: str, other: str) -> Callable[[Groups], Verdict]:
    return lambda groups: about_as_good(_em(groups, one), _em(groups, other))


def _worse(one: str, other: str) -> Callable[[Groups], Verdict]:
    return lambda groups: clearly_worse(_em(groups, one), _em(groups, other))


def _beside(scores: Mapping[str, facts.Scores], one: str, other: str) -> str:
    pairs = zip(facts.SETS, scores[one], scores[other], strict=True)
    return ", ".join(f"{name} {a:g} beside {b:g}" for name, a, b in pairs)


def _beams(groups: Groups) -> Verdict:
    """The larger decoder beside beams of the smaller, by the first questions."""
    if "mq" not in groups or "fido" not in groups:
        return Verdict(OPEN, "not both are measured yet")
    small, large = groups["mq"], groups["fido"]
    found = clearly_worse(small.beams(4), large.on_the_way("1"))
    ms = f"{small.decoder_ms('20', 4):.1f} beside {large.decoder_ms('20'):.1f} ms in the decoder"
    return Verdict(found.word, f"{found.ours}; {ms}")


DEPTHS = tuple(variant.name for variant in VARIANTS_BY_DEPTH)
"""Decoders that differ in their layers alone, the shallowest first."""


def _by_depth(groups: Groups) -> Verdict:
    return growing([(name.replace("depth-", "layers: "), _em(groups, name)) for name in DEPTHS])


def _deeper_or_beams(groups: Groups) -> Verdict:
    """Beams of the shallowest decoder beside the deepest that takes no longer, by the first questions."""
    if not all(name in groups for name in DEPTHS):
        return Verdict(OPEN, "not all depths are measured yet")
    shallow, width = groups[DEPTHS[0]], BEAMS[0]
    most = shallow.decoder_ms("20", width)
    quick = [name for name in DEPTHS[1:] if groups[name].decoder_ms("20") <= most]
    if not quick:
        return Verdict(OPEN, f"every deeper one takes longer than {most:.1f} ms")
    found = clearly_worse(shallow.beams(width), groups[quick[-1]].on_the_way("1"))
    ms = f"{most:.1f} beside {groups[quick[-1]].decoder_ms('20'):.1f} ms in the decoder"
    return Verdict(found.word, f"{width} beams of `{DEPTHS[0]}`, `{quick[-1]}`: {found.ours}; {ms}")


def _by_alpha(groups: Groups) -> Verdict:
    return growing([(f"{alpha} live", _em(groups, lumen(alpha))) for alpha in ALPHAS])


def _gap_closes(groups: Groups) -> Verdict:
    """How much LUMEN(1/3) still loses beside FiD, as training goes on."""
    steps = []
    for budget in BUDGETS:
        found = (groups.get(lumen(alpha)) for alpha in ("1/3", "1"))
        blind, live = (group.on_the_way(budget) if group else {} for group in found)
        steps.append((f"{budget} of the steps", {s: blind[s] - live[s] for s in blind.keys() & live.keys()}))
    return growing(steps)


MEMORIES = {2: "memory-2", 3: "memory-3", 4: lumen("1/3"), 6: "memory-6"}
"""Readers with two live layers, by layers of the memory encoder."""


def _by_memory(groups: Groups) -> Verdict:
    return growing([(f"{n} layers", _em(groups, name)) for n, name in MEMORIES.items()])


def _gain_by_alpha(groups: Groups) -> Verdict:
    """What a training on other questions before adds to that on WebQuestions, with fewer and fewer live."""
    steps = []
    for alpha in reversed(TRANSFERRED):
        alone, after = (_em(groups, f"webq-{dashed(alpha)}{kind}") for kind in ("", "-live"))
        steps.append((f"{alpha} live", {s: after[s] - alone[s] for s in alone.keys() & after.keys()}))
    return growing(steps)


FIDO, LUMEN = "FiDO", "LUMEN"
FINDINGS = (
    Finding(
        f"{FIDO}, table 4",
        "Cross-attention in every sixth layer (FiD-LSA) costs little",
        _beside(facts.LIGHT, "lsa-6", "fid"),
        _good("lsa-6", "fid"),
    ),
    Finding(
        f"{FIDO}, table 4",
        "FiD-Light at the same factor costs much",
        _beside(facts.LIGHT, "light-6", "lsa-6"),
        _worse("light-6", "lsa-6"),
    ),
    Finding(
        f"{FIDO}, table 4",
        "… also where the encoder is trained along",
        judge=_worse("light-6-tuned", "lsa-6-tuned"),
    ),
    Finding(f"{FIDO}, section 3.1", "K = 6 is about as good as K = 2", judge=_good("lsa-6", "lsa-2")),
    Finding(
        f"{FIDO}, table 3", "Multi-query attention on top of it costs little", judge=_good("mq", "lsa-6")
    ),
    Finding(
        f"{FIDO}, table 3",
        "FiDO is about as good as without LSA",
        _beside(facts.ABLATIONS, "fido", "fido-no-lsa"),
        _good("fido", "fido-no-lsa"),
    ),
    Finding(
        f"{FIDO}, table 3",
        "FiDO is about as good as without multi-query attention",
        _beside(facts.ABLATIONS, "fido", "fido-no-mq"),
        _good("fido", "fido-no-mq"),
    ),
    Finding(
        f"{FIDO}, table 3",
        "Without the larger decoder it is clearly worse",
        _beside(facts.ABLATIONS, "mq", "fido"),
        _worse("mq", "fido"),
    ),
    Finding(f"{FIDO}, table 3", "… after three times the training", judge=_worse("mq-longer", "fido-longer")),
    Finding(
        f"{FIDO}, table 3",
        "… by Adafactor, which the paper's learnt by",
        judge=_worse("mq-adafactor", "fido-adafactor"),
    ),
    Finding(
        f"{FIDO}, table 7",
        "A larger decoder is better than beams of the smaller",
        "NQ {mq-beams:g} beside {fido:g}".format(**facts.BEAM_OR_SIZE),
        _beams,
    ),
    Finding(f"{FIDO}, figure 5", "Quality grows with the decoder's layers", judge=_by_depth),
    Finding(
        f"{FIDO}, figure 5",
        "Beams of the smallest decoder are clearly worse than a deeper one that takes no longer",
        judge=_deeper_or_beams,
    ),
    Finding(
        f"{FIDO}, appendix A",
        "The larger decoder learns as well by the hybrid optimiser as by Adafactor",
        judge=_good("fido-hybrid", "fido-adafactor"),
    ),
    Finding(
        f"{FIDO}, appendix A",
        "Second moments carried over help: fresh ones are clearly worse",
        judge=_worse("moments-fresh", "moments-carry"),
    ),
    Finding(LUMEN, "Quality grows with the live proportion", judge=_by_alpha),
    Finding(
        LUMEN, "A third of the encoder live is about as good as FiD", judge=_good(lumen("1/3"), lumen("1"))
    ),
    Finding(LUMEN, "… after three times the training", judge=_good("lumen-1-3-longer", "lumen-1-longer")),
    Finding(LUMEN, "… with two thirds live", judge=_good(lumen("2/3"), lumen("1"))),
    Finding(
        LUMEN,
        "Pure memory (MemoryFiD) is clearly worse than a third live",
        judge=_worse(lumen("0"), lumen("1/3")),
    ),
    Finding(LUMEN, "What a third live loses beside FiD shrinks as more is trained", judge=_gap_closes),
    Finding(
        LUMEN,
        "Passages that don't see the question in the live layers are clearly worse",
        judge=_worse("lumen-1-3-question-sees-passage", lumen("1/3")),
    ),
    Finding(
        LUMEN,
        "Questions that don't see the passage lose less than that",
        judge=_worse("lumen-1-3-question-sees-passage", "lumen-1-3-passage-sees-question"),
    ),
    Finding(
        LUMEN,
        "A question encoder that is left as it is, is clearly worse",
        judge=_worse("lumen-1-3-question-frozen", lumen("1/3")),
    ),
    Finding(LUMEN, "A deeper memory encoder helps, with equal live layers", judge=_by_memory),
    Finding(
        LUMEN,
        "… after three times the training, one of six layers is about as good as one of four",
        judge=_good("memory-6-longer", "lumen-1-3-longer"),
    ),
    Finding(
        LUMEN,
        "A wider memory encoder helps",
        skipped="no wider encoder of these words was pre-trained, and one that is grown from this one "
        "computes the same memory",
    ),
    Finding(
        LUMEN,
        "On WebQuestions, a sixth live is clearly worse without transfer from other questions",
        judge=_worse("webq-1-6", "webq-1-6-live"),
    ),
    Finding(
        LUMEN,
        "… and clearly worse than if the memory encoder is transferred, too",
        judge=_worse("webq-1-6-live", "webq-1-6-memory"),
    ),
    Finding(LUMEN, "Transfer gains the more, the fewer layers are live", judge=_gain_by_alpha),
    Finding(
        "MEMORY-VQ",
        "Memory 16 times smaller than in bf16 is about as good",
        "KILT {1:g} beside {0:g}".format(*facts.VQ),
        lambda groups: answers_as_well(_right(groups, "codec-pq"), _right(groups, "codec-bf16")),
    ),
    Finding(
        "MEMORY-VQ", "… where the reader learns with the codes", judge=_good("lumen-1-3-codes", lumen("1/3"))
    ),
    Finding(
        "GLIMMER",
        "Passages as they were found are clearly worse than the best of them by the reader's own ranking",
        judge=lambda groups: answers_worse(
            _right(groups, "pocket-by-words"), _right(groups, "pocket-by-shares")
        ),
    ),
)
