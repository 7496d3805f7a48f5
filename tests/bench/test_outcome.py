"""From a request to rows: every field, consistent with the repeats, beside prediction and ceiling."""

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.toy import CPU, MACHINE, QUICK, Interrupted, Quiet, Toy
from fidkit.bench import run
from fidkit.bench.measure import FEW, STAGES
from fidkit.bench.outcome import _fraction, make_rows, predicted_again, usually
from fidkit.bench.questions import Questions, synthetic
from fidkit.bench.run import Measured, Request, better, make_subjects, measure, measure_subjects
from fidkit.bench.subjects import Facts
from fidkit.bench.table import make_notes, make_table, make_title
from fidkit.cost import Hardware, Workload, predict
from fidkit.engine.runner import multiplies_bfloat16
from fidkit.errors import FidkitError, UsageError
from fidkit.preset import PRESETS

WORKLOAD = Workload(questions=2, passages=3, passage_tokens=9, question_tokens=4, output_tokens=5)
QUICKLY = {"effort": QUICK, "probe": QUICK}
QUESTIONS = synthetic(WORKLOAD, 1000)
REQUEST = Request(
    presets=["tiny-fid", "tiny-lumen"],
    plain=True,
    rounds=3,
    output_tokens=5,
    device=CPU,
    effort=QUICK,
    probe=QUICK,
)
FIELDS = {
    *("schema", "kind", "git", "command", "hardware", "versions", "subject", "preset", "config", "shapes"),
    *(
        "dtype",
        "beams",
        "device",
        "native",
        "in_half",
        "threads",
        "rounds",
        "warm_up_ms",
        "repeats",
        "faster_than",
    ),
    *("work", "encoder_error", "predicted", "ceiling", "fraction", "memory_ms", *STAGES),
}


@pytest.fixture(scope="module")
def measured() -> Measured:
    return measure(REQUEST, QUESTIONS, Quiet())


@pytest.fixture(scope="module")
def rows(measured: Measured) -> list[dict]:
    return make_rows(measured)


def test_progress_advances_with_every_run() -> None:
    progress = Quiet()
    request = Request(presets=["tiny-fid"], rounds=2, output_tokens=3, device=CPU, **QUICKLY)
    measure(request, QUESTIONS, progress)
    assert progress.done == request.runs == 3
    assert progress.said[:2] == ["measuring the machine", "preparing tiny-fid"]


def test_rows_have_every_field(rows: list[dict]) -> None:
    assert [row["subject"] for row in rows] == [
        "tiny-fid", "tiny-fid@plain", "tiny-lumen", "tiny-lumen@plain",
    ]  # fmt: skip
    for row in rows:
        assert row.keys() == FIELDS
        assert (row["memory_ms"] is not None) == row["preset"].startswith("tiny-lumen")
        assert (row["kind"], row["dtype"], row["device"], row["rounds"]) == ("bench", "bfloat16", "cpu", 3)
        assert row["threads"] == torch.get_num_threads()
        assert {"torch", "fidkit", "python", "transformers"} == row["versions"].keys()
        assert {"machine", "cpu", "cores", "device", "matrix_tflops", "bandwidth_gbs"} <= row[
            "hardware"
        ].keys()
        assert row["config"] == PRESETS[row["preset"]].model_dump(mode="json")
        assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_summaries_are_of_the_repeats(rows: list[dict], measured: Measured) -> None:
    for row in rows:
        times = [each[row["subject"]] for each in measured.rounds]
        assert row["repeats"]["few_ms"] == [t.few_ms for t in times]
        for stage in STAGES:
            repeats = row["repeats"][stage]
            assert repeats == [t.of(stage) for t in times]
            assert row[stage] == {
                "min": min(repeats), "median": sorted(repeats)[1], "max": max(repeats), "n": 3,
            }  # fmt: skip
        total = zip(row["repeats"]["encoder_ms"], row["repeats"]["decoder_ms"], strict=True)
        assert row["repeats"]["total_ms"] == [a + b for a, b in total]


def test_ratios_are_of_rounds(rows: list[dict]) -> None:
    own, other = rows[0], rows[2]
    pairs = zip(own["repeats"]["total_ms"], other["repeats"]["total_ms"], strict=True)
    ratios = sorted(theirs / ours for ours, theirs in pairs)
    assert own["faster_than"]["tiny-lumen"]["total_ms"] == ratios[1]
    assert own["faster_than"].keys() == {"tiny-fid@plain", "tiny-lumen", "tiny-lumen@plain"}


def machines_of(row: dict, measured: Measured) -> list[Hardware]:
    return [machines[row["subject"]] for machines in measured.machines]


def test_predictions_are_the_cost_models(rows: list[dict], measured: Measured) -> None:
    for row in rows:
        usual = predict(PRESETS[row["preset"]], WORKLOAD, usually(machines_of(row, measured)))
        assert row["predicted"] == {**usual.predicted, "step_ms": usual.step_ms}
        prediction = predict(PRESETS[row["preset"]], WORKLOAD, measured.hardware)
        for stage in ("encoder_ms", "decoder_ms", "total_ms"):
            assert row["ceiling"][stage] == prediction.ceiling[stage]
        for stage in ("encoder_ms", "decoder_ms", "total_ms"):
            then = [
                predict(PRESETS[row["preset"]], WORKLOAD, m).ceiling[stage]
                for m in machines_of(row, measured)
            ]
            shares = [best / took for best, took in zip(then, row["repeats"][stage], strict=True)]
            assert row["fraction"][stage] == statistics.median(shares)
        assert row["ceiling"]["step_ms"] * 5 < row["ceiling"]["decoder_ms"]
        work = row["work"]
        assert work["encoder_flops"] + work["decoder_flops"] == prediction.flops
        assert work["step_bytes"] > 0 < work["memory_bytes"]


def test_a_prediction_can_be_made_again_from_its_row(rows: list[dict]) -> None:
    """Of the efficiencies of the same class of machine, as measuring takes them over."""
    for row in json.loads(json.dumps(rows)):
        assert predicted_again(row) == pytest.approx(row["predicted"])
    assert predicted_again({**rows[0], "predicted": None}) is None


def test_the_usual_machine_is_the_median() -> None:
    machines = [
        replace(MACHINE, matrix_tflops={"float32": rate, "bfloat16": 1.0}, bandwidth_gbs=bandwidth)
        for rate, bandwidth in ((1.0, 30.0), (2.0, 90.0), (9.0, 50.0))
    ]
    assert usually(machines).matrix_tflops == {"float32": 2.0, "bfloat16": 1.0}
    assert usually(machines).bandwidth_gbs == 50.0


def test_the_machines_peaks_are_the_better_ones() -> None:
    assert better(MACHINE, MACHINE) == MACHINE
    fast = replace(MACHINE, matrix_tflops={"float32": 9.0, "bfloat16": 0.1}, bandwidth_gbs=1.0)
    assert better(MACHINE, fast).matrix_tflops == {**MACHINE.matrix_tflops, "float32": 9.0}
    assert better(MACHINE, fast).bandwidth_gbs == MACHINE.bandwidth_gbs


def test_the_machine_is_measured_before_each_round(rows: list[dict], measured: Measured) -> None:
    assert len(measured.machines) == len(measured.rounds) == 3
    for row in rows:
        assert [m["bandwidth_gbs"] for m in row["hardware"]["rounds"]] == [
            machine.bandwidth_gbs for machine in machines_of(row, measured)
        ]
    assert measured.hardware.bandwidth_gbs >= max(
        machine.bandwidth_gbs for machines in measured.machines for machine in machines.values()
    )


def test_precisions_side_by_side() -> None:
    request = Request(presets=["tiny-fid"], precisions=("bfloat16", "int8"), rounds=1, output_tokens=3,
                      device=CPU, **QUICKLY)  # fmt: skip
    rows = make_rows(measure(request, QUESTIONS, Quiet()))
    assert [(row["subject"], row["dtype"]) for row in rows] == [
        ("tiny-fid", "bfloat16"), ("tiny-fid@int8", "int8"),
    ]  # fmt: skip
    assert rows[1]["work"]["step_bytes"] < rows[0]["work"]["step_bytes"]
    for row in rows:
        assert row["in_half"] == multiplies_bfloat16(CPU) or row["dtype"] == "bfloat16"
        assert predicted_again(row) == pytest.approx(row["predicted"])


@pytest.mark.parametrize("in_half", [True, False])
def test_int8_is_predicted_at_its_rate_where_kernels_run(rows: list[dict], in_half: bool) -> None:
    """Ten times the rate of 8 bits is no matter to a plain reader, which rounds and computes as before."""
    row = json.loads(json.dumps(rows[0])) | {"dtype": "int8", "in_half": in_half}
    rates = {"float32": 1e-4, "bfloat16": 2e-4, "int8": 4e-4}
    row["hardware"]["rounds"] = [{"matrix_tflops": rates, "bandwidth_gbs": 1e3}]
    faster = json.loads(json.dumps(row))
    faster["hardware"]["rounds"][0]["matrix_tflops"]["int8"] *= 10
    for native in (True, False):
        before, after = (predicted_again(each | {"native": native})["encoder_ms"] for each in (row, faster))
        assert (after < 0.9 * before) == native
    slow = {**rates, "bfloat16": 1e-9}
    row["hardware"]["rounds"][0]["matrix_tflops"] = slow
    assert (predicted_again(row)["encoder_ms"] > 1000 * before) == in_half


def test_peers_have_ceilings_where_the_cost_model_knows_them() -> None:
    pytest.importorskip("transformers")
    request = Request(presets=["tiny-fido"], peers=["hf"], rounds=1, output_tokens=3, device=CPU, **QUICKLY)
    row = make_rows(measure(request, QUESTIONS, Quiet()))[1]
    assert (row["subject"], row["preset"], row["predicted"]) == ("hf", None, None)
    assert row["config"]["attention"] in ("sdpa", "eager")
    assert 0 < row["encoder_error"] < 0.05
    assert row["ceiling"]["encoder_ms"] > 0 < row["fraction"]["total_ms"]
    assert make_table([row], "hf")[1][0][5:7] == ["–", "–"]


def test_peers_that_the_cost_model_does_not_know(measured: Measured) -> None:
    toy = Toy("decoder-only")
    rounds = [{"decoder-only": each["tiny-fid"]} for each in measured.rounds]
    machines = [{"decoder-only": each["tiny-fid"]} for each in measured.machines]
    only = replace(
        measured, subjects=[toy], rounds=rounds, machines=machines, warm_up_ms={"decoder-only": 1.0}
    )
    (row,) = make_rows(only)
    assert row.keys() == FIELDS
    assert [row[name] for name in ("work", "predicted", "ceiling", "fraction")] == [None] * 4
    assert row["encoder_error"] is None
    _, lines = make_table([row], "hf")
    assert lines[0][5:] == ["–"] * 5


def test_subjects_of_a_request() -> None:
    request = Request(
        presets=["tiny-fid", "tiny-fido"],
        peers=["hf", "hf-eager", "hf-compile", "decoder-only"],
        precisions=("int8", "float32"),
        plain=True,
    )
    pytest.importorskip("transformers")
    subjects = make_subjects(request)
    assert len(subjects) == request.subjects
    assert len({subject.name for subject in subjects}) == len(subjects)
    assert [s.name for s in subjects[:4]] == [
        "tiny-fid", "tiny-fid@plain", "tiny-fid@float32", "tiny-fid@float32@plain",
    ]  # fmt: skip
    assert [s.name for s in subjects[8:]] == ["hf", "hf-eager", "hf-compile", "decoder-only"]
    assert [s.dtype for s in subjects[8:]] == ["bfloat16"] * 4  # int8 is ours alone
    assert subjects[8].config.encoder == PRESETS["tiny-fid"].encoder


def test_what_does_not_fit_is_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "available_bytes", lambda device: 10_000)
    monkeypatch.setattr(run.Ours, "prepare", lambda *_: pytest.fail("was prepared"))
    with pytest.raises(UsageError, match="needed for tiny-fid, tiny-fid@plain"):
        measure(REQUEST, QUESTIONS, Quiet())


def test_a_device_that_runs_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(*_) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(run.Ours, "prepare", prepare)
    with pytest.raises(FidkitError, match="take a smaller --batch"):
        measure(REQUEST, QUESTIONS, Quiet())


def test_an_interrupted_run_keeps_complete_rounds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    decode, calls = run.Ours.decode, []

    def interrupted(self, tokens: int):
        calls.append(tokens)
        if len(calls) > 2 + 2 * 2:  # warm, and through two rounds
            raise KeyboardInterrupt
        return decode(self, tokens)

    monkeypatch.setattr(run.Ours, "decode", interrupted)
    request = Request(presets=["tiny-fid"], rounds=7, output_tokens=3, device=CPU, **QUICKLY,
                      profile=tmp_path / "trace.json")  # fmt: skip
    measured = measure(request, QUESTIONS, Quiet())
    assert len(measured.rounds) == 2
    assert not (tmp_path / "trace.json").exists()
    assert make_rows(measured)[0]["total_ms"]["n"] == 2


def test_shares_of_times_that_noise_made_negative_count_for_nothing() -> None:
    assert _fraction([1.0, 1.0, 1.0], [2.0, -4.0, 0.0]) == 0.5
    assert _fraction([1.0], [-4.0]) is None


def measure_toys(subjects: list[Toy], allows=lambda seconds: True, rounds: int = 7) -> Measured:
    return measure_subjects(
        subjects, QUESTIONS, output_tokens=5, rounds=rounds, device=CPU, peaks=MACHINE, probe=QUICK,
        progress=Quiet(), allows=allows,
    )  # fmt: skip


def test_every_round_begins_with_another_subject() -> None:
    measured = measure_toys([Toy("a"), Toy("b")], rounds=3)
    assert ["".join(each) for each in measured.rounds] == ["ab", "ba", "ab"]
    assert len(measured.machines) == 3
    assert not measured.interrupted


def test_an_interrupted_round_is_dropped() -> None:
    measured = measure_toys([Toy("a"), Interrupted(after=4)])  # warm, two rounds, then
    assert measured.interrupted
    assert [set(each) for each in measured.rounds] == [{"a", "interrupted"}] * 2
    assert len(measured.machines) == 2


def test_nothing_to_show_before_the_first_round() -> None:
    with pytest.raises(KeyboardInterrupt):
        measure_toys([Toy("a"), Interrupted(after=2)])


def test_rounds_end_when_time_is_up() -> None:
    asked: list[float] = []

    def allows(seconds: float) -> bool:
        asked.append(seconds)
        return len(asked) <= 4

    measured = measure_toys([Toy("a"), Toy("b")], allows)
    assert len(measured.rounds) == 2  # two subjects are made ready, two rounds begin
    assert asked[:2] == [0, 0]
    assert all(seconds > 0 for seconds in asked[2:])
    assert not measured.interrupted


def test_no_round_begins_before_all_subjects_are_ready() -> None:
    log: list = []
    answers = iter([True, False, True])
    measured = measure_toys([Toy("a", log), Toy("b", log)], lambda _: next(answers))
    assert (measured.rounds, measured.warm_up_ms.keys(), measured.hardware) == ([], {"a"}, MACHINE)
    assert ("b", "prepare") not in log


class Beams(run.Ours):
    @property
    def facts(self) -> Facts:
        return replace(super().facts, beams=4)


def test_beams_are_predicted() -> None:
    weights = run.SharedWeights(PRESETS["tiny-fid"], torch.bfloat16, CPU)
    subjects = [
        run.Ours("one", "tiny-fid", weights, "bfloat16"),
        Beams("four", "tiny-fid", weights, "bfloat16"),
    ]
    measured = measure_toys(subjects, rounds=1)
    one, four = make_rows(measured)
    assert (one["beams"], four["beams"]) == (1, 4)
    usual = usually(machines_of(four, measured))
    expected = predict(PRESETS["tiny-fid"], WORKLOAD.replace(beams=4), usual)
    assert four["predicted"] == {**expected.predicted, "step_ms": expected.step_ms}
    assert four["work"]["decoder_flops"] > one["work"]["decoder_flops"]
    assert four["work"]["memory_bytes"] > one["work"]["memory_bytes"]
    assert four["ceiling"]["encoder_ms"] == one["ceiling"]["encoder_ms"]


@pytest.mark.parametrize("tokens", [1, FEW])
def test_answers_too_short_to_tell_a_step(tokens: int) -> None:
    request = Request(
        presets=["tiny-fid", "tiny-fido"], rounds=2, output_tokens=tokens, device=CPU, **QUICKLY
    )
    rows = make_rows(measure(request, QUESTIONS, Quiet()))
    for row in rows:
        assert (row["step_ms"], row["repeats"]["step_ms"], row["fraction"]["step_ms"]) == (None, [], None)
        assert row["decoder_ms"]["n"] == 2
    assert rows[0]["faster_than"]["tiny-fido"]["step_ms"] is None
    _, lines = make_table(rows, "tiny-fid")
    assert lines[2][1:6] == ["step", *"––––"]


def test_a_profile_names_stages(tmp_path: Path) -> None:
    path = tmp_path / "new" / "trace.json"
    request = Request(presets=["tiny-fid", "tiny-fido"], rounds=1, output_tokens=3, device=CPU, **QUICKLY,
                      profile=path)  # fmt: skip
    measure(request, QUESTIONS, Quiet())
    names = {event.get("name") for event in json.loads(path.read_text(encoding="utf-8"))["traceEvents"]}
    assert {"tiny-fid: encode", "tiny-fid: decode", "tiny-fido: encode", "tiny-fido: decode"} <= names


def test_the_table_shows_the_rows(rows: list[dict]) -> None:
    header, lines = make_table(rows, "tiny-fid")
    assert header == [
        "subject",
        "stage",
        "ms",
        "min",
        "max",
        "x tiny-fid",
        "predicted",
        "ceiling",
        "of ceiling",
        "error",
    ]
    assert [line[:2] for line in lines[:5]] == [
        ["tiny-fid", "encoder"], ["", "decoder"], ["", "step"], ["", "total"], ["tiny-fid@plain", "encoder"],
    ]  # fmt: skip
    assert all(len(line) == len(header) for line in lines)
    assert lines[0][5] == "–"
    assert float(lines[4][5]) == pytest.approx(rows[1]["faster_than"]["tiny-fid"]["encoder_ms"], abs=0.006)
    title = make_title(rows)
    assert title.startswith("2 questions x 3 passages of 13 tokens, question included; 5 output tokens; bfl")
    assert "medians of 3 rounds" in title
    assert list(make_notes(rows)) == []


def test_what_was_compiled_says_how_long_it_took(rows: list[dict]) -> None:
    row = {**rows[0], "subject": "hf-compile", "warm_up_ms": 90_000.0,
           "config": {"compiled": True, "decoder": "eager"}}  # fmt: skip
    assert list(make_notes([row])) == ["hf-compile: 90 s to compile and warm up; fastest decoder here: eager"]


def test_questions_of_one_corpus_have_one_number_of_passages() -> None:
    ragged = Questions([[1]], [[[1], [2, 3]]])
    assert ragged.shapes(3)["passages"] == ragged.workload(3).passages == 2
