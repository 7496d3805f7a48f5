"""The page and its plots say what the rows say."""

import shutil
from pathlib import Path

import pytest
from paper import facts
from render import documents, pictures
from render.paper import page, plots, tables, verdicts
from render.paper.results import gather
from render.paper.sections import sections
from render.paper.words import label

from fidkit.bench.rows import read


def test_rows_become_a_page_with_a_plot(measure, tmp_path: Path) -> None:
    path = measure("figure-4")
    docs = tmp_path / "docs"
    docs.mkdir()
    stale = documents.reproduce(path.parent, docs, check=False)
    assert {file.name for file in stale} == {"reproduce.md", "paper-figure-4.png"}
    text = (docs / "reproduce.md").read_text(encoding="utf-8")
    (row, *_) = read(path)
    assert row["git"] in text
    assert row["date"] in text
    assert "Status: measured at size tiny on " in text
    assert "waits for a GPU" in text
    assert text.count("Status: not measured") == len(sections({})) - 1
    assert documents.reproduce(path.parent, docs, check=True) == []


def test_new_rows_make_page_and_plot_stale(measure, tmp_path: Path) -> None:
    path = measure("figure-4", rounds=1)
    docs = tmp_path / "docs"
    docs.mkdir()
    documents.reproduce(path.parent, docs, check=False)
    before = {file: file.read_bytes() for file in docs.iterdir()}
    measure("figure-4", rounds=2)
    assert len(documents.reproduce(path.parent, docs, check=True)) == 2
    assert {file: file.read_bytes() for file in docs.iterdir()} == before


def test_plots_are_the_same_every_time(measure, tmp_path: Path) -> None:
    drawn = plots.panels("figure-4", gather(read(measure("figure-4"))))
    for name in ("one.png", "two.png"):
        pictures.draw(drawn, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert pictures.is_current(tmp_path / "one.png", drawn)


@pytest.mark.slow
def test_all_sections_together(measure, tmp_path: Path) -> None:
    for section in sections({}):
        folder = measure(section.name).parent
    docs = tmp_path / "docs"
    docs.mkdir()
    documents.reproduce(folder, docs, check=False)
    text = (docs / "reproduce.md").read_text(encoding="utf-8")
    assert "not measured" not in text
    for section in sections({}):
        assert (docs / f"paper-{section.name}.png").exists() == section.plot
    assert sum(file.stat().st_size for file in docs.iterdir()) < 500_000
    shutil.rmtree(docs)


def fake(system: str, encoder: list[float], decoder: list[float], batch: int = 1, **more) -> dict:
    total = [a + b for a, b in zip(encoder, decoder, strict=True)]
    repeats = {"encoder_ms": encoder, "decoder_ms": decoder, "step_ms": decoder, "total_ms": total}
    row = {"unit": "inference", "system": system, "size": "base", "device": "cpu", "machine": "m"}
    row |= {"experiment": "x", "batch": batch, "git": "abc", "date": "2026-01-01", "repeats": repeats}
    return {**row, "shapes": {"questions": batch}, **more}


def systems(*rows: dict) -> dict:
    (results,) = gather(rows)
    return results.systems("inference")


def test_ratios_are_taken_within_rounds() -> None:
    # A disturbed round slows both down alike.
    found = systems(fake("fid", [10, 100, 12], [10, 100, 12]), fake("mq", [5, 50, 6], [5, 50, 6]))
    assert found["fid"].over(found["mq"], "total_ms") == pytest.approx(2)


def test_times_are_of_one_sample() -> None:
    found = systems(fake("fid", [24.0], [48.0], batch=24))
    assert found["fid"].sample_ms("decoder_ms") == pytest.approx(2)
    assert found["fid"].decoder_share == pytest.approx(2 / 3)


@pytest.mark.parametrize("step", [[], [2.5]])
def test_answers_too_short_to_tell_a_step_have_a_dash(step: list[float]) -> None:
    row = fake("fid", [10.0], [5.0], precision="int8")
    row["repeats"]["step_ms"] = step
    said = "2.50" if step else "–"
    assert f" | 5.00 | {said} | " in tables.times(systems(row), "base", {})
    assert f" | 5.00 | {said} | " in tables.precisions(systems(row), {})


def test_the_paper_s_statements_are_judged() -> None:
    found = systems(fake("fid", [10], [90]), fake("lsa", [10], [20]), fake("mq", [10], [5]))
    monotone, speedup = verdicts.falling(found)
    assert monotone.startswith("Holds")
    assert "6.67 times" in speedup
    backwards = systems(fake("fid", [10], [1]), fake("lsa", [10], [20]), fake("mq", [10], [5]))
    assert next(verdicts.falling(backwards)).startswith("Does not hold")
    assert next(verdicts.decoder_shares(backwards)).startswith("Does not hold")


def test_small_shares_are_asked_of_medium_batches_only() -> None:
    (small,) = verdicts.decoder_shares(systems(fake("asym", [10], [30])))
    assert small.startswith("For the record")
    (medium,) = verdicts.decoder_shares(systems(fake("asym", [10], [30], batch=24)))
    assert medium.startswith("Does not hold")


def test_predictions_are_within_a_quarter_or_not() -> None:
    (results,) = gather([fake("fid", [100], [100]), fake("mq", [100], [100])])
    fid, mq = results.results
    fid.predicted = {"encoder_ms": 124, "decoder_ms": 126}
    mq.predicted = {"encoder_ms": 76, "decoder_ms": 100}
    encoder, decoder = verdicts.predictions(results.results)
    assert encoder.startswith("Holds: encoder: 2 of 2")
    assert decoder.startswith("Does not hold: decoder: 1 of 2")


def test_settings_stay_apart() -> None:
    both = gather([fake("fid", [1], [1]), {**fake("fid", [2], [2]), "device": "cuda", "machine": "H200"}])
    assert [results.setting.device for results in both] == ["cuda", "cpu"]
    assert "waits" not in page.status(both)
    assert "waits for a GPU" in page.status(both[1:])
    assert page.status([]) == "Status: not measured."


def test_exact_match_comes_from_the_reader_measured_last() -> None:
    rows = [
        {"setting": "squad/gold", "fingerprint": "old", "em": 1.0, "precision": "float32"},
        {"setting": "squad/gold", "fingerprint": "new", "em": 2.0, "precision": "float32"},
        {"setting": "squad/gold", "fingerprint": "new", "em": 3.0, "precision": "int8"},
        {"setting": "nq/gold", "fingerprint": "new", "em": 4.0, "precision": "float32"},
    ]
    assert page.exact_match(rows) == {"float32": 2.0, "int8": 3.0}
    assert page.exact_match([]) == {}


def test_every_system_has_words() -> None:
    for system in (*facts.BATCH_1, *facts.ABLATIONS, *facts.LIGHT, *facts.BEAM_OR_SIZE, "hf"):
        assert label(system, "base") != system
