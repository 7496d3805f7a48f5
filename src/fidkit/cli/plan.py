"""`fidkit plan`: what a reader will cost, before anything runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fidkit.cli.table import print_table
from fidkit.wording import counted

if TYPE_CHECKING:
    from fidkit.config import ReaderConfig
    from fidkit.cost import CostPlan, Hardware, Workload

DEFAULT_PASSAGES = 40
DEFAULT_CORPUS = 1_000_000
COLUMNS = ("stage", "GFLOP", "MB", "FLOP/byte", "ceiling ms", "predicted ms", "bound by")


Preset = Annotated[
    str,
    typer.Argument(metavar="PRESET", help="A preset, or the directory of a reader.", show_default=False),
]
HardwareOption = Annotated[
    str,
    typer.Option(metavar="NAME", help="h200, h100, a100, tpuv4, cpu-2core, or local: this machine."),
]
PassagesOption = Annotated[
    int | None, typer.Option(metavar="N", help="Passages a question.", show_default=str(DEFAULT_PASSAGES))
]
PassageTokens = Annotated[
    str | None,
    typer.Option(
        metavar="P",
        help="Tokens of a passage, or of each, separated by commas.",
        show_default="the reader's",
    ),
]
QuestionTokens = Annotated[
    int | None, typer.Option(metavar="Q", help="Tokens of a question.", show_default="the reader's")
]
OutputTokens = Annotated[int, typer.Option(metavar="T", help="Tokens of an answer.")]
Batch = Annotated[int, typer.Option(metavar="B", help="Questions at a time.")]
BeamsOption = Annotated[int, typer.Option(metavar="W", help="Beams a question.")]
Dtype = Annotated[str, typer.Option(help="Of weights and activations: bfloat16 or float32.")]
DecoderDtype = Annotated[
    str | None,
    typer.Option(help="Of the decoder's weights: also int8.", show_default="as --dtype"),
]
EncoderDtype = Annotated[
    str | None,
    typer.Option(
        help="Of the encoder's products: also int8, 8 bits by 8, as `--precision int8` has them on a CPU.",
        show_default="as --dtype",
    ),
]
CorpusPassages = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Passages whose memory is stored (LUMEN, MemoryFiD).",
        show_default=f"{DEFAULT_CORPUS:,}",
    ),
]
Codec = Annotated[
    str, typer.Option(help="Of stored memory: float32, bf16, int8, pq; `computed` plans no store.")
]
Train = Annotated[bool, typer.Option("--train", help="Plan a training step instead.")]
Remeasure = Annotated[bool, typer.Option("--remeasure", help="With --hardware local: measure it again.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def plan(
    preset: Preset,
    hardware: HardwareOption = "h200",
    passages: PassagesOption = None,
    passage_tokens: PassageTokens = None,
    question_tokens: QuestionTokens = None,
    output_tokens: OutputTokens = 32,
    batch: Batch = 1,
    beams: BeamsOption = 1,
    dtype: Dtype = "bfloat16",
    decoder_dtype: DecoderDtype = None,
    encoder_dtype: EncoderDtype = None,
    corpus_passages: CorpusPassages = None,
    codec: Codec = "bf16",
    train: Train = False,
    remeasure: Remeasure = False,
    as_json: AsJson = False,
) -> None:
    """Predict operations, bytes, time and memory of a reader, by stage."""
    from fidkit.cost import Workload, make_plan
    from fidkit.errors import UsageError
    from fidkit.preset import SIZES

    config = _config(preset)
    if train and beams > 1:
        raise UsageError(
            f"--beams {beams}: a training step has no beams; leave it out or plan without --train"
        )
    if train and encoder_dtype not in (None, dtype):
        raise UsageError(
            f"--encoder-dtype {encoder_dtype}: a training step multiplies in --dtype {dtype}; leave it out, "
            "or plan without --train"
        )
    lengths = _lengths(passage_tokens, config.passage_tokens)
    count = len(lengths) if isinstance(lengths, tuple) else DEFAULT_PASSAGES
    workload = Workload(
        questions=batch,
        passages=count if passages is None else passages,
        passage_tokens=lengths,
        question_tokens=config.question_tokens if question_tokens is None else question_tokens,
        output_tokens=output_tokens,
        beams=beams,
        dtype=dtype,
        decoder_dtype=decoder_dtype,
        encoder_dtype=encoder_dtype,
        memory=codec,
    )
    planned = make_plan(
        config,
        workload,
        find_or_measure(hardware, remeasure),
        corpus_passages=_corpus_passages(preset, config, workload, corpus_passages),
        sizes=SIZES,
        training=train,
    )
    if as_json:
        print(json.dumps({"preset": preset, **planned.to_json()}))
    else:
        _show(preset, planned)
    _require_fit(preset, planned)


def _show(preset: str, planned: CostPlan) -> None:
    print(_title(preset, planned))
    print_table(COLUMNS, _rows(planned), text=(0, len(COLUMNS) - 1))
    for line in (_memory(planned), *_store(planned), _paper(planned), *_hints(planned)):
        print(line)
    machine = planned.prediction.hardware
    print(f"{machine.name}: {machine.source}", file=sys.stderr)


def _title(preset: str, planned: CostPlan) -> str:
    w = planned.prediction.workload
    lengths = sorted(set(w.lengths))
    tokens = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
    what = "a training step of " if planned.training else ""
    beams = f", {w.beams} beams" if w.beams > 1 else ""
    others = {"encoder": w.encoder_matrices, "decoder": w.decoder_matrices}
    dtype = ", ".join([w.dtype, *(f"{stack} {of}" for stack, of in others.items() if of != w.dtype)])
    machine = planned.prediction.hardware.name
    return (
        f"{preset} ({planned.parameters / 1e6:,.1f}M parameters) on {machine}: {what}"
        f"{counted(w.questions, 'question')} of {counted(w.question_tokens, 'token')}, "
        f"{counted(w.passages, 'passage')} of {tokens} tokens, "
        f"{counted(w.output_tokens, 'output token')}{beams}, {dtype}"
    )


def _rows(planned: CostPlan) -> list[tuple[str, ...]]:
    p = planned.prediction
    rows: list[tuple[str, ...]] = [
        (
            stage.stage,
            *_work(stage.flops, stage.bytes),
            _ms(stage.ceiling_ms),
            _ms(stage.predicted_ms),
            stage.bound,
        )
        for stage in p.stages
    ]
    blank = ("", "", "")
    for name in ("encoder", "decoder"):
        rows.append((name, *blank, _ms(p.ceiling[f"{name}_ms"]), _ms(p.predicted[f"{name}_ms"]), ""))
    total, expected = p.ceiling["total_ms"], p.predicted["total_ms"]
    rows.append(("total", *_work(p.flops, p.bytes), _ms(total), _ms(expected), ""))
    if p.workload.questions > 1:
        rows.append(("a question", *blank, _ms(total / p.workload.questions), _ms(p.ms_per_question), ""))
    return rows


def _work(flops: int, moved: int) -> tuple[str, str, str]:
    return f"{flops / 1e9:,.1f}", f"{moved / 1e6:,.1f}", f"{flops / moved:,.1f}"


def _memory(planned: CostPlan) -> str:
    usable = f"of {_gb(planned.usable_bytes)} on {planned.prediction.hardware.name}"
    from fidkit.cost import TrainingBytes

    m = planned.memory
    if isinstance(m, TrainingBytes):
        w, kept = planned.prediction.workload, m.activations.total
        of_token = kept / (w.questions * sum(w.lengths)) / 1e6
        return (
            f"memory: {_gb(m.state)} {usable} for weights, gradients and Adam's moments; on top, activations "
            f"of about {_gb(kept)} ({of_token:,.2f} MB a passage token), or {_gb(m.checkpointed.total)} with "
            "activation checkpointing"
        )
    packed = f", again as the matrix library has them {_gb(m.packed)}" if m.packed else ""
    return (
        f"memory: {_gb(m.total)} {usable} (weights {_gb(m.weights)}{packed}, reading {_gb(m.reading)}, "
        f"cross caches {_gb(m.cross_cache)}, self caches {_gb(m.self_cache)}); "
        f"largest batch {planned.largest_batch:,}"
    )


def _store(planned: CostPlan) -> Iterator[str]:
    store = planned.store
    if store is None:
        return
    hours = store.predicted_s / 3600
    took = f"{hours:,.1f} h" if hours >= 1 else f"{store.predicted_s:,.0f} s"
    codec = planned.prediction.workload.memory
    yield f"store: {_gb(store.bytes)} for {counted(store.passages, 'passage')} in {codec}, built in {took}"


def _paper(planned: CostPlan) -> str:
    paper = planned.paper
    return (
        f"the FiDO paper's count: {paper.total / 1e9:,.1f} G multiplications, "
        f"{paper.decoder / paper.total:.1%} of them in the decoder"
    )


def _hints(planned: CostPlan) -> Iterator[str]:
    from fidkit.cost import best

    chosen = best(planned.hints)
    if chosen:
        yield "what buys most:"
    for hint in chosen:
        yield f"  {hint.gain:.2f}x faster, {_ms(hint.ms_per_question)} ms a question: {hint.change}"
        yield f"    price: {hint.price}"
    for hint in [hint for hint in planned.hints if hint.gain < 1][:1]:
        yield f"what more would cost:\n  {1 / hint.gain:.2f}x slower: {hint.change}"
        yield f"    price: {hint.price}"


def _require_fit(preset: str, planned: CostPlan) -> None:
    """Raises FidkitError when the batch can't run."""
    from fidkit.errors import FidkitError

    if not planned.missing_bytes:
        return
    short = (
        f"{_gb(planned.needed_bytes)} needed, {_gb(planned.missing_bytes)} more than the "
        f"{_gb(planned.usable_bytes)} of {planned.prediction.hardware.name}"
    )
    if planned.training:
        raise FidkitError(f"training {preset} doesn't fit: {short}; choose a smaller reader")
    remedy = f"the largest batch that fits is {planned.largest_batch}"
    if not planned.largest_batch:
        remedy = "not even one question fits; try fewer passages, --decoder-dtype int8 or a smaller reader"
    questions = counted(planned.prediction.workload.questions, "question")
    raise FidkitError(f"a batch of {questions} doesn't fit: {short}; {remedy}")


def _config(preset: str) -> ReaderConfig:
    """A preset's configuration, or that of a reader's directory. The weights aren't looked at."""
    from fidkit import assets
    from fidkit.config import ReaderConfig
    from fidkit.errors import UsageError
    from fidkit.preset import PRESETS

    if preset in PRESETS:
        return PRESETS[preset]
    directory = Path(preset)
    if preset in assets.READERS:
        directory = assets.reader(preset)
    file = directory / "config.json"
    if file.is_file():
        return ReaderConfig.load(file)
    if directory.exists():
        raise UsageError(f"{preset}: no config.json in it; give a reader's directory or a preset")
    known = ", ".join(sorted(PRESETS))
    raise UsageError(f"no preset and no reader's directory {preset!r}; known presets: {known}")


def _lengths(given: str | None, default: int) -> int | tuple[int, ...]:
    from fidkit.errors import UsageError

    if given is None:
        return default
    try:
        lengths = tuple(int(part) for part in given.split(","))
    except ValueError as error:
        raise UsageError(
            f"--passage-tokens {given!r}: expected a whole number, or one of each passage as in 120,208,96"
        ) from error
    return lengths if len(lengths) > 1 else lengths[0]


def find_or_measure(name: str, remeasure: bool = False) -> Hardware:
    """The machine called `name`; `local` is measured if it wasn't yet."""
    from fidkit.cost.hardware import LOCAL, find_hardware, local_path, save_local
    from fidkit.errors import UsageError

    if name != LOCAL and remeasure:
        raise UsageError(f"--remeasure goes with --hardware local, not {name}; leave one of them out")
    if name != LOCAL or (local_path().exists() and not remeasure):
        return find_hardware(name)
    print("measuring this machine once, half a minute or less; nothing else should run", file=sys.stderr)
    from fidkit.bench import ceilings

    measured = ceilings.measure()
    print(f"kept in {save_local(measured)}; --remeasure measures again", file=sys.stderr)
    return measured


def _corpus_passages(preset: str, config: ReaderConfig, workload: Workload, given: int | None) -> int | None:
    """Passages whose memory is stored; None where nothing is."""
    from fidkit.cost.workload import COMPUTED
    from fidkit.errors import UsageError

    stores = config.memory_layers > 0 and workload.memory != COMPUTED
    if given is None:
        return DEFAULT_CORPUS if stores else None
    if given < 1:
        raise UsageError(f"--corpus-passages {given}: give a whole number from 1")
    if not config.memory_layers:
        raise UsageError(
            f"--corpus-passages {given}: {preset} stores no memory, all of its encoder layers are live; "
            "leave it out or choose a preset such as lumen-base"
        )
    if not stores:
        raise UsageError(f"--corpus-passages {given} needs a store; give --codec float32, bf16, int8 or pq")
    return given


def _ms(ms: float) -> str:
    if ms >= 100:
        return f"{ms:,.0f}"
    return f"{ms:.2f}" if ms >= 1 else f"{ms:.4f}"


def _gb(size: int) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e7 else f"{size / 1e6:,.2f} MB"
