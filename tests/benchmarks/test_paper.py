"""Every table and figure is measured by its command, goes on where it stopped, and stops in time."""

import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import paper.command
import pytest
import torch
from paper import allocation
from paper.allocation import MOST, Limit
from paper.command import _parser, main
from paper.experiments import EXPERIMENTS
from paper.inference import has_transformers
from paper.record import IDENTITY, Book, Deadline
from paper.session import Session
from render.paper.results import gather

from fidkit.bench import run as running
from fidkit.bench.rows import read

ROOT = Path(__file__).parents[2]
SLOW = ("figure-6", "plan", "precision", "table-1")
STAMPS = {"git", "command", "hardware", "versions", "date", "threads", *IDENTITY}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in EXPERIMENTS],
)
def test_every_experiment_runs(name: str, measure, capsys: pytest.CaptureFixture[str]) -> None:
    found = list(read(measure(name)))
    assert found
    for row in found:
        assert row.keys() >= STAMPS
        assert (row["experiment"], row["size"], row["device"]) == (name, "tiny", "cpu")
        if "repeats" in row:
            assert len(row["repeats"]["total_ms"]) == row["total_ms"]["n"] == 2
            assert row["encoder_ms"]["median"] > 0
            assert row["decoder_ms"]["median"] > 0
    assert "0 of" in capsys.readouterr().err


def test_what_is_measured_is_not_measured_again(measure) -> None:
    path = measure("table-4", rounds=1)
    assert len(list(read(path))) == 3
    assert measure("table-4", rounds=1) == path
    assert len(list(read(path))) == 3


def test_missing_rounds_are_added(measure) -> None:
    measure("table-4", rounds=1)
    found = list(read(measure("table-4", rounds=3)))
    assert [row["total_ms"]["n"] for row in found] == [1, 1, 1, 2, 2, 2]
    (results,) = gather(found)
    assert [len(r.repeats["total_ms"]) for r in results.systems("inference").values()] == [3, 3, 3]


def test_another_batch_is_another_measurement(measure) -> None:
    measure("table-4", rounds=1)
    found = list(read(measure("table-4", "--batch", "2", rounds=1)))
    assert [row["batch"] for row in found] == [1, 1, 1, 2, 2, 2]
    (results,) = gather(found)
    assert results.batches("inference") == [1, 2]


def test_no_time_is_no_rows(measure, capsys: pytest.CaptureFixture[str]) -> None:
    assert not measure("figure-6", "--limit-minutes", "0").exists()
    assert "4 of 4 units left" in capsys.readouterr().err


def test_time_runs_out_between_units(tmp_path: Path) -> None:
    session = Session("figure-4", "tiny", torch.device("cpu"), batch=1, rounds=3)
    book = Book(tmp_path / "rows.jsonl")
    ticks = iter([0.0, *[1.0] * 1000])
    stopped = Deadline(0.01, clock=lambda: next(ticks))  # over when it is first asked
    assert paper.command.measure(session, book, stopped) == 1
    assert not book.path.exists()


def test_a_deadline_keeps_a_reserve() -> None:
    deadline = Deadline(1, clock=lambda: 0.0)
    assert not deadline.over
    assert deadline.allows(60 / Deadline.SPARE - 1)
    assert not deadline.allows(60 / Deadline.SPARE)


def test_an_interruption_keeps_complete_rounds(measure, monkeypatch: pytest.MonkeyPatch) -> None:
    run, calls = running.run_round, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run(*arguments)

    monkeypatch.setattr(running, "run_round", interrupted)
    found = list(read(measure("table-4", rounds=5)))
    assert [row["total_ms"]["n"] for row in found] == [2, 2, 2]
    assert len(calls) == 3


def test_an_interruption_before_the_first_round_leaves_no_rows(
    measure, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "run_round", interrupted)
    assert not measure("figure-6").exists()
    err = capsys.readouterr().err
    assert "4 of 4 units left" in err
    assert err.count("figure-6 ") == 1  # nothing further is begun


def test_beams_are_predicted_as_beams(measure) -> None:
    rows = {row["system"]: row for row in read(measure("table-7", rounds=1))}
    greedy, beams = rows["mq"], rows["mq-beam"]
    assert (greedy["beams"], beams["beams"]) == (1, 4)
    assert beams["ceiling"]["encoder_ms"] == greedy["ceiling"]["encoder_ms"]
    assert beams["predicted"]["decoder_ms"] > 0 < greedy["predicted"]["decoder_ms"]
    assert beams["work"]["decoder_flops"] > 3 * greedy["work"]["decoder_flops"]


def test_cuda_is_asked_for_in_vain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device"):
        main(["table-3", "--device", "cuda", "--out", str(tmp_path)])


def test_entries_that_do_not_fit_together_are_measured_in_groups(
    measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper.inference, "needed_bytes", lambda subjects, _: len(subjects))
    monkeypatch.setattr(paper.inference, "available_bytes", lambda _: 2)
    found = list(read(measure("table-4", rounds=1)))
    assert [sorted(row["faster_than"]) for row in found] == [["light"], ["fid"], []]


@pytest.mark.parametrize(("holds", "found"), [(0, 0), (5, 5), (MOST, MOST), (10 * MOST, MOST)])
def test_the_largest_batch_of_a_device_is_tried(
    holds: int, found: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = {
        "get_device_properties": lambda device: SimpleNamespace(total_memory=10**9),
        "set_per_process_memory_fraction": lambda share, device: None,
    }
    for name, instead in cuda.items():
        monkeypatch.setattr(torch.cuda, name, instead)
    monkeypatch.setattr(
        allocation, "allocated", lambda session, system, one: 1 if one.questions <= holds else None
    )
    session = Session("table-1", "tiny", torch.device("cpu"), batch=1, rounds=1, machine="none")
    unit = Limit("all-memory", "fid", session.size.workload)
    unit.run(session, Book(tmp_path / "rows.jsonl"), Deadline(9))
    [row] = read(tmp_path / "rows.jsonl")
    assert row["measured_batch"] == found
    assert {batch for batch, size in row["tried"].items() if size is None} == {
        batch for batch in row["tried"] if int(batch) > holds
    }


def test_the_plan_has_enough_points() -> None:
    session = Session("plan", "base", torch.device("cpu"), batch=1, rounds=7)
    entries = [entry for unit in EXPERIMENTS["plan"](session) for entry in unit.entries]
    assert len(entries) >= 12


def test_documented_commands_parse() -> None:
    text = "".join(
        (ROOT / page).read_text(encoding="utf-8") for page in ("benchmarks/gpu.md", "docs/reproduce.md")
    )
    commands = re.findall(r"python benchmarks/paper\.py ([^`\n|]+)", text)
    assert {_parser().parse_args(shlex.split(words)).name for words in commands} == set(EXPERIMENTS)


def test_without_transformers_there_is_no_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_transformers()  # a package of the developers
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it weren't installed
    monkeypatch.setattr("paper.experiments.has_transformers", has_transformers.__wrapped__)
    session = Session("figure-2", "tiny", torch.device("cpu"), batch=1, rounds=1)
    (unit,) = EXPERIMENTS["figure-2"](session)
    assert [entry.name for entry in unit.entries] == ["fid", "lsa", "mq", "asym"]
