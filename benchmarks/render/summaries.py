"""Measured rows as the small tables of README and model card."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

CONTEXTS = {
    "gold": "one passage that holds the answer",
    "foreign-gold": "one passage of another question",
    "none": "no passage",
    "retrieved": "retrieved",
    "foreign": "retrieved for another question",
    "near": "one passage on the topic that doesn't say it",
}
SUBJECTS = {
    "hf": "FiD on transformers, as it comes",
    "hf-eager": "the same, eager attention",
    "hf-compile": "the same, compiled",
    "openvino-int8": "encoder on OpenVINO, decoder on ONNX Runtime, 8 bits",
    "onnxruntime-int8": "both on ONNX Runtime, 8 bits",
    "ctranslate2-int8": "encoder on CTranslate2, decoder on ONNX Runtime, 8 bits",
    "decoder-only": "decoder-only model of 0.5B, one prompt",
}
TRAINED = {
    "fid": "FiD",
    "lsa": "FiD + LSA",
    "mq": "FiD + LSA + MQ (FiDO, equal stacks)",
    "asym": "FiDO with a larger decoder",
    "hf-256": "FiD on transformers, rows padded to 256 tokens",
    "hf-longest": "the same, rows padded to the longest of the step",
}
NONE = "\N{EN DASH}"
NOTHING = "Not measured yet."
MEASURES = {"em": "EM", "f1": "F1", "log_likelihood": "log-likelihood, nats"}


def quality_in_short(records: list[dict[str, Any]]) -> str:
    """`quality` of what people ask first: the passage with the answer, a control, some that were found."""
    shown = [("gold", 1), ("foreign-gold", 1), ("retrieved", 5), ("retrieved", 20)]
    return quality([r for r in records if (r["context"], r["passages"]) in shown])


def quality(records: list[dict[str, Any]]) -> str:
    """EM / F1 of the reader that was measured last, a line a dataset, a column for what it sees."""
    if not records:
        return NOTHING
    current = [r for r in records if r["fingerprint"] == records[-1]["fingerprint"]]
    sights = [
        (context, n)
        for context in CONTEXTS
        for n in sorted({r["passages"] for r in current if r["context"] == context})
    ]
    heads = [_sight(context, n) for context, n in sights]
    lines = [f"| the reader sees | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    for dataset in dict.fromkeys(r["dataset"] for r in current):
        cells = {(r["context"], r["passages"]): _cell(r) for r in current if r["dataset"] == dataset}
        lines.append(f"| {dataset} | {' | '.join(cells.get(sight, '') for sight in sights)} |")
    legend = "Each cell: exact match / F1 in percent (number of questions)"
    if any("forced_em" in record for record in current):
        legend += (
            ", where the reader has to answer; then exact match as it comes, and the percentage of questions "
            "to which it says nothing. Where no passage holds the answer, silence is right"
        )
    return "\n".join([*lines, "", f"{legend}.{_said(current)}"])


def _sight(context: str, n: int) -> str:
    """What the reader sees, in words."""
    if context not in ("retrieved", "foreign"):
        return CONTEXTS[context]
    return f"{n} passage{'s' if n > 1 else ''}, {CONTEXTS[context]}"


def _said(records: list[dict[str, Any]]) -> str:
    """How the answers of all settings are made up, where it was counted."""
    counted = [record for record in records if "verbatim" in record]
    if not counted:
        return ""
    n = sum(record["n"] for record in counted)
    verbatim = sum(record["verbatim"] * record["n"] for record in counted) / n
    loops = sum(record["loops"] for record in counted)
    return f" Of {n:,} answers {verbatim:.1f} % stand word for word in a passage, and {loops} go in circles."


def _cell(record: dict[str, Any]) -> str:
    if "forced_em" not in record:
        return f"{record['em']:.1f} / {record['f1']:.1f} ({record['n']})"
    forced = f"{record['forced_em']:.1f} / {record['forced_f1']:.1f} ({record['n']})"
    return f"{forced}; {record['em']:.1f}, silent {record['silent']:.0f} %"


def own_folder(records: list[dict[str, Any]]) -> str:
    """Readers and language models on the folder of examples/own-folder, as measured last.

    A line each; those of one reader stand together, that with fewer passages first.
    """
    if not records:
        return NOTHING
    last = {(r["reader"], r["passages"]): r for r in records}
    readers = [*dict.fromkeys(r["reader"] for r in records)]
    ordered = sorted(last.items(), key=lambda one: (readers.index(one[0][0]), one[0][1]))
    heads = ["passages", "right exactly", "answer contained", "absences said", "withheld", "loops"]
    heads += ["s a question", "MB"]
    lines = [f"| | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    for (name, passages), r in ordered:
        counts = [
            f"{r[key]} of {r[of]}"
            for key, of in (
                ("right", "answerable"),
                ("contained", "answerable"),
                ("absences_said", "absent"),
                ("withheld", "answerable"),
                ("loops", "questions"),
            )
        ]
        cells = [f"`{name}`", str(passages), *counts, f"{r['seconds_per_question']:.2f}"]
        lines.append(f"| {' | '.join(cells)} | {r['megabytes']:.0f} |")
    processors = ", ".join(sorted({r["hardware"]["cpu"] for r in last.values()}))
    commands = ", ".join(f"`{command}`" for command in dict.fromkeys(r["command"] for _, r in ordered))
    return "\n".join([*lines, "", f"{processors}. {commands}"])


def tested_evidence(records: list[dict[str, Any]]) -> str:
    """What leaving passages out showed, and what it cost, as measured last."""
    if not records:
        return NOTHING
    last = records[-1]
    return (
        f"Of {last['n']} right answers out of {last['passages']} passages, "
        f"{last['changed_without_first']:.0f} % became another without the first piece of evidence, and "
        f"{last['changed_without_last']:.0f} % without the last; a passage left out costs "
        f"{last['ms_a_passage']:.0f} ms beside {last['answer_ms']:.0f} ms for the answer "
        f"({last['hardware']['cpu']}, threads: {last['threads']}). `{last['command']}`"
    )


def speed(records: list[dict[str, Any]]) -> str:
    """Medians of one run of `fidkit bench`, a line a subject, and the command that makes it again."""
    if not records:
        return NOTHING
    last = records[-1]
    run = [r for r in records if (r["git"], r["command"]) == (last["git"], last["command"])]
    # Rows from before errors were measured have none.
    errors = ["encoder off by"] if all("encoder_error" in record for record in run) else []
    beside = ["speed (`hf` = 1)"] if any(record["subject"] == "hf" for record in run) else []
    names = ["", "encoder ms", "decoder ms", "total ms", *beside, *errors]
    lines = [f"| {' | '.join(names)} |".replace("|  |", "| |"), "|---" * len(names) + "|"]
    for record in run:
        cells = [f"{record[stage]['median']:,.0f}" for stage in ("encoder_ms", "decoder_ms", "total_ms")]
        faster = record["faster_than"].get("hf")
        cells += [f"{faster['total_ms']:.2f}" if faster else "1"] if beside else []
        cells += [_error(record["encoder_error"])] if errors else []
        lines.append(f"| {subject(record['subject'])} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", circumstances(run[0])])


def _error(measured: float | None) -> str:
    """Of an encoder, beside float32; a subject without one has none."""
    return NONE if measured is None else f"{100 * measured:.1f} %"


def subject(name: str) -> str:
    """A subject of a benchmark in words."""
    return f"{SUBJECTS[name]} (`{name}`)" if name in SUBJECTS else f"`{name}`"


def circumstances(record: dict[str, Any]) -> str:
    """What was read, on what, and the command that does it again."""
    shapes, hardware = record["shapes"], record["hardware"]
    lengths = shapes["passage_tokens"]
    row = shapes["question_tokens"] + (sum(lengths) / len(lengths) if isinstance(lengths, list) else lengths)
    return (
        f"{shapes['passages']} passages of {row:.0f} tokens on average, each with its question; "
        f"{shapes['output_tokens']} output tokens; {record['dtype']}, {hardware['device']}; medians of "
        f"{record['rounds']} interleaved rounds. `{record['command']}`"
    )


def datasets(records: Sequence[dict[str, Any]]) -> list[str]:
    """Those that readers were judged by (`judging.judge_all`)."""
    found = (
        name for row in records for name, value in row.items() if isinstance(value, dict) and "em" in value
    )
    return list(dict.fromkeys(found))


def spread(values: Sequence[float], *, seeds: bool) -> str:
    """The mean, and where there are seeds, from the least to the largest."""
    mean = statistics.mean(values)
    return f"{mean:.2f} ({min(values):.2f} to {max(values):.2f})" if seeds else f"{mean:.2f}"


def line(*cells: str) -> str:
    """Of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def rule(columns: int) -> str:
    """Between a table's header and its lines."""
    return "|" + "---|" * columns


def training_speed(records: list[dict[str, Any]]) -> str:
    """The last run of `training_speed.py` in each precision, and how far the losses of a curve are apart."""
    if not records:
        return NOTHING
    speeds, curves = (
        [r for r in records if r["kind"] == kind] for kind in ("training-speed", "training-curve")
    )
    said = []
    for dtype in dict.fromkeys(r["dtype"] for r in speeds):
        found = [r for r in speeds if r["dtype"] == dtype]
        said += [_of_systems([r for r in found if r["command"] == found[-1]["command"]])]
        said += [_of_training(found[-1])]
    return "\n\n".join([*said, *map(_of_training, curves[-1:])])


def _of_systems(records: list[dict[str, Any]]) -> str:
    """The systems of one run, beside its peers."""
    steps = {r["system"]: r for r in records}
    peers = [name for name in steps if name.startswith("hf-")]
    over = "".join(f" `{name}` = 1 |" for name in peers)
    lines = [
        f"| training | samples a second |{over} processor's ms a step |{over}",
        "|---|---|" + "---|" * (1 + 2 * len(peers)),
    ]
    for system, row in steps.items():
        shown = f" (`{system}`)" if system in peers else ""
        by_day, by_processor = (
            "".join(f" {steps[peer][time]['median'] / row[time]['median']:.2f} |" for peer in peers)
            for time in ("total_ms", "cpu_ms")
        )
        speed, cpu_ms = row["samples_per_second"], row["cpu_ms"]["median"]
        lines.append(f"| {TRAINED[system]}{shown} | {speed:.3g} |{by_day} {cpu_ms:,.0f} |{by_processor}")
    return "\n".join(lines)


def _of_training(record: dict[str, Any]) -> str:
    """The circumstances of a run's speeds, or what its curve came to."""
    if record["kind"] == "training-curve":
        ours, theirs = record["fid"], record["hf"]
        return (
            f"The losses over {len(ours)} steps from equal weights (float32, no dropout, "
            f"{record['passages']} passages) go from {ours[0]:.2f} to {ours[-1]:.2f} here and from "
            f"{theirs[0]:.2f} to {theirs[-1]:.2f} on transformers; they differ by "
            f"{record['largest_difference']:.1e} at most."
        )
    rows, passages = record["row_tokens"], record["passages"] * record["batch"]
    return (
        f"Size {record['size']}, {record['passages']} retrieved passages of "
        f"{sum(rows) / len(rows) / passages:.0f} tokens on average, each with its question; "
        f"{record['dtype']}, dropout {record['dropout']:g}, AdamW, {record['machine']}; medians of "
        f"{record['total_ms']['n']} interleaved rounds at a load of "
        f"{min(record['load']):.0f} to {max(record['load']):.0f} processes. `{record['command']}`"
    )
