"""Tables and figures as sections of a page: what each shows of its results, beside what the paper says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from paper import facts

from render.paper import tables, verdicts
from render.paper.results import Result, Results, Systems

Paper = dict[str, tuple[float | None, float | None]]
Blocks = Iterator[str]


@dataclass(frozen=True)
class Section:
    """One table or figure.

    Attributes:
        name: of the experiment.
        title: of the section.
        text: what is measured, and what the paper has of it.
        blocks: Markdown of one setting's results.
        plot: whether there is a plot.
    """

    name: str
    title: str
    text: str
    blocks: Callable[[Results], Blocks]
    plot: bool = False


def timed(paper: Paper, judge: Callable[[Systems], Iterator[str]], unit: str = "inference"):
    """Tables of one unit, a table a batch, with what follows from it."""

    def blocks(results: Results) -> Blocks:
        for batch in results.batches(unit):
            found = results.systems(unit, batch)
            yield origin(results, list(found.values()))
            yield tables.times(found, results.setting.size, paper)
            yield sentences(judge(found))

    return blocks


def origin(results: Results, of: Sequence[Result]) -> str:
    """Where, when and with what something was measured."""
    rounds = [len(r.repeats["total_ms"]) for r in of if r.repeats]
    revisions = ", ".join(dict.fromkeys(revision for r in of for revision in r.revisions))
    dates = sorted({date for r in of for date in r.dates})
    words = [f"Size {results.setting.size}", results.setting.machine]
    if rounds:
        words.append(f"batch {of[0].batch}")
        least, most = min(rounds), max(rounds)
        words.append(f"{least} rounds" if least == most else f"{least} to {most} rounds")
    words += [" to ".join(dict.fromkeys((dates[0], dates[-1]))), f"revision {revisions}"]
    return f"**{', '.join(words)}**"


def sentences(found: Iterator[str]) -> str:
    """As a list."""
    return "\n".join(f"- {text}." for text in found)


def _figure_1(results: Results) -> Blocks:
    size = results.setting.size
    counted = results.systems("operations")
    if counted:
        yield origin(results, list(counted.values()))
        yield tables.operations(counted, size)
        paper = facts.layer_sparsity_saving()
        text = f"By the paper's formulas, cross-attention in every sixth layer saves {paper:.1%} of FiD"
        yield sentences(iter([text]))
    yield from timed({}, verdicts.decoder_shares)(results)
    for batch in results.batches("training"):
        found = results.systems("training", batch)
        yield origin(results, list(found.values()))
        yield tables.rates(found, size, {})
        shares = ", ".join(f"{name} {result.decoder_share:.0%}" for name, result in found.items())
        yield sentences(iter([f"The decoder's share of forward and backward passes: {shares}"]))


def _figure_2(found: Systems) -> Iterator[str]:
    yield from verdicts.falling(found)
    yield from verdicts.decoder_shares(found)


def _figure_6(results: Results) -> Blocks:
    for prefix, of in (("passages-", "passages"), ("output-", "output tokens")):
        points = results.sweep(prefix)
        for batch in sorted({batch for batch, _ in points}):
            chosen = {n: systems for (b, n), systems in points.items() if b == batch}
            yield origin(results, [r for systems in chosen.values() for r in systems.values()])
            yield tables.sweep(chosen, results.setting.size, of)
    yield sentences(verdicts.growth(results))


def _table_1(results: Results) -> Blocks:
    size = results.setting.size
    for unit in results.units():
        if unit == "growth":
            by_batch = {batch: results.systems(unit, batch) for batch in results.batches(unit)}
            yield origin(results, [r for systems in by_batch.values() for r in systems.values()])
            yield "Megabytes beyond the weights: measured / by the cost model."
            yield tables.allocations(by_batch, size)
            continue
        found = results.systems(unit)
        yield origin(results, list(found.values()))
        if unit == "model":
            yield "By the cost model, for the memory of two machines:"
            yield tables.budgets(found, size)
            batches = {name: r.row["largest_batch"]["tpuv4"]["batch"] for name, r in found.items()}
            yield sentences(verdicts.batches(batches, "cost model, TPUv4"))
        else:
            yield tables.limits(found, size)
            batches = {name: r.row["measured_batch"] for name, r in found.items()}
            yield sentences(verdicts.batches(batches, "measured"))


def _table_2(results: Results) -> Blocks:
    for unit, paper in (("pre-training", facts.PRETRAIN), ("fine-tuning", facts.FINETUNE)):
        for batch in results.batches(unit):
            found = results.systems(unit, batch)
            yield f"### {unit.capitalize()}\n\n{origin(results, list(found.values()))}"
            yield tables.rates(found, results.setting.size, paper)
            yield sentences(verdicts.training(found))


def _plan(results: Results) -> Blocks:
    yield origin(results, results.results)
    yield tables.predictions(results)
    yield sentences(verdicts.predictions(results.results))


def _precision(quality: dict[str, float]) -> Callable[[Results], Blocks]:
    def blocks(results: Results) -> Blocks:
        for system in results.units():
            for batch in results.batches(system):
                found = results.systems(system, batch)
                yield f"System `{system}`. {origin(results, list(found.values()))}"
                yield tables.precisions(found, quality)
                yield sentences(verdicts.precisions(found, system))

    return blocks


def _totals(numbers: dict[str, float]) -> Paper:
    return {system: (total, None) for system, total in numbers.items()}


def _both(numbers: dict[str, tuple[float, float]]) -> Paper:
    return dict(numbers)


def sections(quality: dict[str, float]) -> list[Section]:
    """All of them, in the paper's order; then what the paper has no table of."""
    decoders: Paper = {system: (None, decoder) for system, decoder in facts.BEAM_OR_SIZE.items()}
    return [
        Section(
            "figure-1",
            "Figure 1: where the operations and the time go",
            "Shares of encoder and decoder in operations, training and inference, for FiD and FiDO.",
            _figure_1,
            plot=True,
        ),
        Section(
            "figure-2",
            "Figure 2, left: from FiD to FiDO",
            "Time a sample as the parts are added. The paper's numbers are those of its tables 3 and 4; its "
            f"encoder takes {facts.encoder_ms()} ms.",
            timed(_both(facts.stages()), _figure_2),
            plot=True,
        ),
        Section(
            "figure-4",
            "Figure 4: layer-sparse cross-attention",
            "FiDO with cross-attention in every K-th layer of the larger decoder.",
            timed({}, verdicts.sparsity, "every"),
            plot=True,
        ),
        Section(
            "figure-6",
            "Figure 6: passages and output length",
            "Total time against the number of passages, and against the output tokens.",
            _figure_6,
            plot=True,
        ),
        Section(
            "table-1",
            "Table 1: memory and the largest batch",
            "40 passages a question. On a GPU, batches are tried until memory runs out, in all of its memory "
            "and in as much as a TPU v4 has. On a CPU, the cost model fills a stated memory, and the growth "
            "of memory is measured at small batches. That measurement is sampled: it is a little too low.",
            _table_1,
            plot=True,
        ),
        Section(
            "table-2",
            "Table 2: training",
            "Training steps with weights and optimiser in float32 and products in bfloat16. Pre-training has "
            "rows of 512 tokens and targets of 114, fine-tuning 40 rows of 256 and targets of 32. Times of "
            "encoder and decoder are of both passes, forward and backward. The update includes the clipping "
            "of gradients.",
            _table_2,
        ),
        Section(
            "table-3",
            "Table 3: FiDO without one of its parts",
            "FiDO, without LSA, without MQ, and without the larger decoder.",
            timed(_both(facts.ABLATIONS), verdicts.ablations),
        ),
        Section(
            "table-4",
            "Table 4: FiD-Light",
            "FiD-Light keeps the first sixth of each passage's vectors, which costs what LSA costs.",
            timed(_totals(facts.LIGHT), verdicts.light),
        ),
        Section(
            "table-6",
            "Table 6: one question at a time",
            "Batch 1.",
            timed(_both(facts.BATCH_1), verdicts.single),
        ),
        Section(
            "table-7",
            "Table 7: beams or a larger decoder",
            f"What is known of the paper's beams is their cost, {facts.BEAM_COST} times that of one, not "
            f"their number. Here there are {facts.BEAM_COST}.",
            timed(decoders, verdicts.beam_or_size),
        ),
        Section(
            "plan",
            "Prediction and measurement",
            "What `fidkit plan` says, with the peaks of the machine measured in the same run. Milliseconds a "
            "batch.",
            _plan,
            plot=True,
        ),
        Section(
            "precision",
            "Precision",
            "float32, bfloat16, and bfloat16 with the decoder's matrices in int8. Memory is the cost "
            "model's. Exact match, where it was measured at a precision, is the bundled reader's on "
            "dev.squad with the passage that holds the answer.",
            _precision(quality),
        ),
    ]
