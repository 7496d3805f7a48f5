"""What the paper says in words, held against results: sentences with the numbers in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from paper import facts

from render.paper.results import Result, Results, Systems
from render.pictures import WITHIN

MEDIUM_BATCH = 24
FREE = 1.1
"""What costs less than a tenth more is free."""
Sentences = Iterator[str]


def judged(holds: bool, text: str) -> str:
    """A sentence that says whether the paper's statement holds."""
    return f"{'Holds' if holds else 'Does not hold'}: {text}"


def decoder_shares(found: Systems) -> Sentences:
    """The decoder is most of FiD's time, and little of FiDO's at medium batches."""
    if "fid" in found:
        share = found["fid"].decoder_share
        yield judged(share > 0.5, f"the decoder takes {share:.0%} of FiD's time (paper: more than 50 %)")
    if "asym" in found:
        share, batch = found["asym"].decoder_share, found["asym"].batch
        text = f"the decoder takes {share:.0%} of FiDO's time at batch {batch}"
        if batch >= MEDIUM_BATCH:
            yield judged(share < 0.2, f"{text} (paper: less than 20 %)")
        else:
            yield f"For the record: {text}; the paper's less than 20 % is of batches from {MEDIUM_BATCH}"


def falling(found: Systems) -> Sentences:
    """Each part makes it faster."""
    names = [name for name in ("fid", "lsa", "mq") if name in found]
    times = [found[name].sample_ms("total_ms") for name in names]
    if len(times) == 3:
        shown = ", ".join(f"{ms:.1f}" for ms in times)
        yield judged(times[0] > times[1] > times[2], f"FiD, + LSA, + MQ fall: {shown} ms a sample")
        ratio = found["fid"].over(found["mq"], "total_ms")
        paper = facts.speedup()
        yield f"FiD takes {ratio:.2f} times the total of FiDO with equal stacks (paper: {paper:.2f})"
    if "hf" in found and "mq" in found:
        ratio = found["hf"].over(found["mq"], "total_ms")
        yield f"FiD on transformers takes {ratio:.2f} times the total of FiDO with equal stacks"


def sparsity(found: Systems) -> Sentences:
    """Beyond K = 6 there is little left to gain."""
    by_every = {int(name.rpartition("-")[2]): r.sample_ms("decoder_ms") for name, r in found.items()}
    if {1, facts.EVERY} < set(by_every):
        most = max(by_every)
        first = by_every[1] - by_every[facts.EVERY]
        more = by_every[facts.EVERY] - by_every[most]
        yield judged(
            first > more,
            f"K from 1 to {facts.EVERY} saves {first:.2f} ms of decoder a sample, "
            f"from {facts.EVERY} to {most} {more:.2f} ms",
        )


def growth(results: Results) -> Sentences:
    """Time grows with passages; a larger decoder is seen at long outputs."""
    outputs = results.sweep("output-")
    for batch in sorted({batch for batch, _ in outputs}):
        points = {n: systems for (b, n), systems in outputs.items() if b == batch}
        extra = {
            n: s["asym"].over(s["mq"], "total_ms") - 1
            for n, s in points.items()
            if {"asym", "mq"} <= s.keys()
        }
        if len(extra) > 1:
            short, long = min(extra), max(extra)
            yield judged(
                extra[long] > extra[short],
                f"the larger decoder adds {extra[short]:.0%} with {short} output tokens and "
                f"{extra[long]:.0%} with {long} (batch {batch})",
            )
    passages = results.sweep("passages-")
    for batch in sorted({batch for batch, _ in passages}):
        points = {n: systems for (b, n), systems in passages.items() if b == batch}
        for system in ("fid", "mq"):
            ms = {n: s[system].sample_ms("total_ms") for n, s in points.items() if system in s}
            if len(ms) > 1:
                few, many = min(ms), max(ms)
                yield judged(
                    list(ms.values()) == sorted(ms.values()),
                    f"time grows with passages: `{system}` takes {ms[few]:.1f} ms with {few} and "
                    f"{ms[many]:.1f} ms with {many} (batch {batch})",
                )


def batches(order: dict[str, int], of: str) -> Sentences:
    """FiDO's parts make room for larger batches."""
    if {"fid", "lsa", "mq"} <= order.keys():
        numbers = [order[name] for name in ("fid", "lsa", "mq")]
        yield judged(
            numbers[0] < numbers[1] <= numbers[2],
            f"the largest batch grows from FiD to + LSA and doesn't shrink with + MQ ({of}): "
            + ", ".join(f"{n:,}" for n in numbers),
        )


def training(found: Systems) -> Sentences:
    """LSA makes training faster, MQ hardly, the larger decoder slower."""
    if {"fid", "lsa", "asym"} <= found.keys():
        fid, lsa, asym = (1000 / found[name].sample_ms("total_ms") for name in ("fid", "lsa", "asym"))
        yield judged(
            lsa > fid and asym < lsa,
            f"LSA trains {lsa / fid:.2f} times as fast as FiD, FiDO's larger decoder {asym / fid:.2f} times",
        )


def ablations(found: Systems) -> Sentences:
    """Without multi-query attention the larger decoder is unaffordable."""
    if {"asym", "asym-no-mq"} <= found.keys():
        ratio = found["asym-no-mq"].over(found["asym"], "decoder_ms")
        paper = facts.multi_query_speedup()
        yield judged(
            ratio > 1, f"without MQ the decoder takes {ratio:.2f} times as long (paper: {paper:.1f})"
        )
    if {"asym", "asym-no-lsa"} <= found.keys():
        ratio = found["asym-no-lsa"].over(found["asym"], "decoder_ms")
        paper = facts.ABLATIONS["asym-no-lsa"][1] / facts.ABLATIONS["asym"][1]
        yield judged(ratio > 1, f"without LSA {ratio:.2f} times (paper: {paper:.1f})")
    if {"asym", "mq"} <= found.keys():
        extra = found["asym"].over(found["mq"], "total_ms") - 1
        yield (
            f"The larger decoder adds {extra:.0%} to the total at batch {found['asym'].batch} "
            f"(paper: {facts.LARGER_DECODER_COST:.0%} at batch {MEDIUM_BATCH})"
        )


def light(found: Systems) -> Sentences:
    """FiD-Light and LSA cost the same, far less than FiD."""
    if {"fid", "light", "lsa"} <= found.keys():
        light, lsa = (found[name].over(found["fid"], "total_ms") for name in ("light", "lsa"))
        paper = [facts.LIGHT[name] / facts.LIGHT["fid"] for name in ("light", "lsa")]
        yield judged(
            max(light, lsa) < 1,
            f"FiD-Light takes {light:.2f} of FiD's time and FiD with LSA {lsa:.2f} "
            f"(paper: {paper[0]:.2f} and {paper[1]:.2f})",
        )


def single(found: Systems) -> Sentences:
    """At batch 1 beams are free and the larger decoder dominates."""
    yield from falling(found)
    if {"mq", "mq-beam-16"} <= found.keys():
        ratio = found["mq-beam-16"].over(found["mq"], "total_ms")
        yield judged(ratio < FREE, f"16 beams take {ratio:.2f} times the total of one (paper: 1.00)")
    if "asym" in found:
        share = found["asym"].decoder_share
        total, decoder = facts.BATCH_1["asym"]
        yield judged(
            share > 0.5, f"the larger decoder takes {share:.0%} of the time (paper: {decoder / total:.0%})"
        )


def beam_or_size(found: Systems) -> Sentences:
    """What beams cost a larger decoder costs too."""
    if {"mq", "mq-beam", "asym"} <= found.keys():
        beam, asym = (found[name].over(found["mq"], "decoder_ms") for name in ("mq-beam", "asym"))
        paper = facts.BEAM_OR_SIZE
        yield (
            f"Beams take {beam:.2f} times the decoder's time and the larger decoder {asym:.2f} times "
            f"(paper: {paper['mq-beam'] / paper['mq']:.1f} and {paper['asym'] / paper['mq']:.1f})"
        )


def predictions(results: Sequence[Result]) -> Sentences:
    """Predictions are within a quarter of the measurement."""
    for stage in ("encoder_ms", "decoder_ms"):
        off = [r.predicted[stage] / r.ms(stage) - 1 for r in results if r.predicted]
        if off:
            near = sum(abs(each) <= WITHIN for each in off)
            yield judged(
                near == len(off),
                f"{stage.removesuffix('_ms')}: {near} of {len(off)} predictions within {WITHIN:.0%} of the "
                f"measurement, from {min(off):+.0%} to {max(off):+.0%}",
            )


def precisions(found: Systems, system: str) -> Sentences:
    """int8 halves what steps read."""
    bfloat16, int8 = (found.get(f"{system}-{name}") for name in ("bfloat16", "int8"))
    if bfloat16 and int8:
        ratio = bfloat16.over(int8, "decoder_ms")
        yield f"int8 decodes {ratio:.2f} times as fast as bfloat16"
