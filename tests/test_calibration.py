"""Confidence: what it is computed from, how it is fitted, what it withholds, and the file that keeps it."""

import json
import math
from pathlib import Path

import pytest
import torch

from fidkit import Answerer, Passage
from fidkit.calibration import FILE, SIGNALS, Calibration, Signal, raw_confidence
from fidkit.config import ReaderConfig
from fidkit.context import IGNORED, collate
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.signals import of_tokens, of_words
from fidkit.errors import CheckpointError, DataError
from fidkit.evaluate.calibration import across, fit, reliability
from fidkit.reader import Reader
from fidkit.types import Evidence

PASSAGES = [Passage("1", "Tea", "Tea comes from China."), Passage("2", "Nile", "The Nile flows north.")]
QUESTION = "where does the tea come from?"


def calibrated(threshold: float, preset: str = "tiny-fid") -> Reader:
    reader = Reader.from_preset(preset)
    likely = Signal(weight=1.0, mean=-5.0, deviation=2.0)
    reader.calibration = Calibration(signals={"likelihood": likely}, intercept=0.3, threshold=threshold)
    return reader


def answer(reader: Reader, **more):
    how = {"decoding": Decoding(max_tokens=5)} | more
    return Answerer(reader, precision="as-is").read(QUESTION, PASSAGES, **how)


# Signals


def test_signals_of_tokens_are_their_definitions() -> None:
    logits_BTV, end = torch.randn(2, 3, 7), 1
    logits_BTV[0, 0, end] = 9.0  # ending at once is likely, and no token to compare others with
    logits_BTV[1, 2, 0] = -9.0  # what stands behind the end counts nothing
    ids_BT = torch.tensor([[4, 2, 1], [5, 1, IGNORED]])
    p = logits_BTV.softmax(-1)
    for n, found in enumerate(of_tokens(logits_BTV, ids_BT, end)):
        tokens = [i for i in ids_BT[n].tolist() if i != IGNORED]
        logs = [math.log(p[n, t, i]) for t, i in enumerate(tokens)]
        first = sorted((p[n, 0, i].log().item() for i in range(7) if i != end), reverse=True)
        ends = p[n, 0, end].item()
        expected = {
            "end": math.log(ends / (1 - ends)),
            "likelihood": sum(logs) / len(logs),
            "least": min(logs),
            "margin": first[0] - first[1],
            "length": math.log(len(logs)),
        }
        assert found == pytest.approx(expected, abs=1e-4)


def test_certain_of_ending_is_a_finite_signal() -> None:
    logits_BTV = torch.tensor([[[0.0, 200.0, 1.0]]])
    (found,) = of_tokens(logits_BTV, torch.tensor([[1]]), 1)
    assert all(math.isfinite(value) for value in found.values())


def test_signals_of_words_are_their_definitions() -> None:
    here = Evidence(PASSAGES[0], 0.7, (15, 20), (15, 20), "Tea comes from China.")
    found = of_words(
        "Where do teapots come from in China?", "China", (here, Evidence(PASSAGES[1], 0.3)), verbatim=True
    )
    # Words of four letters or more: where, teapots, come, from, china. The passage has the last two.
    assert found == pytest.approx(
        {
            "passages": math.log(3),
            "agreement": math.log(2),
            "verbatim": 1.0,
            "share": 0.7,
            "repeated": 1.0,
            "overlap": 2 / 5,
            "nearness": 2 / 5,
        }
    )
    elsewhere = of_words(
        "Where do teapots come from in China?", "China", (Evidence(PASSAGES[1], 0.6), here), verbatim=True
    )
    assert elsewhere == found | {"share": 0.7}  # the passage that counts is the first that has the answer
    nowhere = of_words("who?", "me", (), verbatim=False)
    assert nowhere.keys() == {"passages", "agreement", "verbatim", "share", "repeated"}


@pytest.mark.parametrize("preset", ["tiny-fid", "tiny-glimmer", "tiny-lumen"])
def test_every_answer_has_its_signals(preset: str) -> None:
    reader = Reader.from_preset(preset)
    found = answer(reader)
    assert found.signals.keys() <= SIGNALS.keys()
    assert found.signals["likelihood"] == pytest.approx(found.score, abs=1e-4)
    assert found.confidence == pytest.approx(raw_confidence(found.signals))
    asked = reader.tokenizer.question(QUESTION).ids
    with torch.no_grad():
        context = reader.read(collate([asked], [reader.tokenizer.passages(PASSAGES)]))
        first = reader.decode(torch.tensor([[reader.config.end_token]]), context)[0, 0].softmax(-1)
    end = first[reader.config.end_token].item()
    assert found.signals["end"] == pytest.approx(math.log(end / (1 - end)), abs=1e-3)


# Withholding


def test_what_is_probably_wrong_is_withheld_and_remains_a_guess() -> None:
    free, given, withheld = (
        answer(Reader.from_preset("tiny-fid")),
        answer(calibrated(0.0)),
        answer(calibrated(1.0)),
    )
    assert free.guess == free.text
    assert given.text == given.guess == withheld.guess != ""
    assert withheld.text == ""
    assert withheld.confidence == given.confidence
    odds = 0.3 + (given.signals["likelihood"] + 5) / 2
    assert given.confidence == pytest.approx(1 / (1 + math.exp(-odds)))
    assert [e.passage for e in withheld.evidence] == [e.passage for e in given.evidence]


def test_a_threshold_is_what_is_still_given() -> None:
    confidence = answer(calibrated(0.0)).confidence
    assert answer(calibrated(confidence)).text
    assert not answer(calibrated(math.nextafter(confidence, 1))).text


def test_a_calibrated_reader_never_ends_at_once() -> None:
    reader = calibrated(0.0)
    calibration, end = reader.calibration, reader.config.end_token
    with torch.no_grad():
        likely = reader.head.linear.weight[end].clone()
        for sign in (100, -100):  # one of them makes it the likeliest token
            reader.head.linear.weight[end] = sign * likely
            reader.calibration = None
            if not answer(reader).text:
                break
    assert not answer(reader).text
    reader.calibration = calibration
    for decoding in (None, Decoding(max_tokens=5, beams=2), Decoding(max_tokens=5, temperature=1.0)):
        assert answer(reader, decoding=decoding).signals["length"] > 0


def test_tested_evidence_compares_with_the_guess() -> None:
    found = answer(calibrated(1.0), test_evidence=2)
    assert found.text == ""
    assert all(e.without is not None for e in found.evidence)


# Fitting


def drawn(n: int, seed: int = 0) -> tuple[list[dict[str, float]], list[bool]]:
    """Right with log-odds 0.5 + 2 likelihood - end, whatever the margin says."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(n, 3, generator=generator)
    odds = 0.5 + 2 * table[:, 0] - table[:, 1]
    right = torch.rand(n, generator=generator) < odds.sigmoid()
    rows = [dict(zip(("likelihood", "end", "margin"), row, strict=True)) for row in table.tolist()]
    return rows, right.tolist()


def test_a_fit_finds_what_made_answers_right() -> None:
    signals, right = drawn(4000)
    found = fit(signals, right, keep=1.0)
    slopes = {name: s.weight / s.deviation for name, s in found.signals.items()}
    assert slopes == pytest.approx({"likelihood": 2, "end": -1, "margin": 0}, abs=0.15)
    unseen, were_right = drawn(4000, seed=1)
    confidences = [found.confidence(row) for row in unseen]
    judged = reliability(confidences, were_right)
    assert judged.expected_error < 3
    assert (
        judged.coverage[10]
        > judged.coverage[50]
        > judged.coverage[100]
        == pytest.approx(100 * sum(were_right) / 4000)
    )


def test_answers_that_are_seldom_right_get_little_confidence_however_few() -> None:
    """The mean of confidences is the share of right answers: what is drawn to 0 is weights, not it."""
    signals, right = drawn(60)
    rare = [r and n % 5 == 0 for n, r in enumerate(right)]
    found = fit(signals, rare, keep=1.0)
    mean = sum(found.confidence(row) for row in signals) / len(signals)
    assert mean == pytest.approx(sum(rare) / len(rare), abs=1e-6)


def test_the_threshold_keeps_as_many_right_answers_as_it_should() -> None:
    signals, right = drawn(1000)
    for keep in (1.0, 0.9, 0.5):
        found = fit(signals, right, keep=keep)
        kept = [found.confidence(s) >= found.threshold for s, r in zip(signals, right, strict=True) if r]
        assert sum(kept) / len(kept) == pytest.approx(keep, abs=1 / len(kept))
        assert sum(kept) / len(kept) >= keep


def test_what_is_absent_counts_as_the_mean() -> None:
    signals, right = drawn(400)
    found = fit([*signals, {"likelihood": 1.0}], [*right, True], keep=1.0)
    likelihood, end = found.signals["likelihood"], found.signals["end"]
    assert found.confidence({"likelihood": likelihood.mean}) == found.confidence(
        {"likelihood": likelihood.mean, "end": end.mean}
    )


def test_no_answer_judges_itself() -> None:
    """A signal that names the answer would be right about all it was fitted on, and of no use elsewhere."""
    n = 200
    generator = torch.Generator().manual_seed(3)
    right = (torch.rand(n, generator=generator) < 0.5).tolist()
    noise = torch.randn(n, len(SIGNALS), generator=generator).tolist()
    signals = [dict(zip(SIGNALS, row, strict=True)) for row in noise]
    own = fit(signals, right, keep=1.0)
    fooled = reliability([own.confidence(s) for s in signals], right)
    honest = reliability(across(signals, right, [str(i) for i in range(n)]), right)
    assert fooled.coverage[50] > honest.coverage[50] + 5


def test_reliability_by_hand() -> None:
    judged = reliability([0.9] * 10 + [0.2] * 10, [True] * 8 + [False] * 2 + [True] * 4 + [False] * 6)
    # Ten bins of two. Of 0.9 four are right and one is wrong, of 0.2 two and three.
    assert judged.expected_error == pytest.approx(100 * (4 * 0.1 + 0.9 + 2 * 0.8 + 3 * 0.2) / 10)
    assert judged.coverage[50] == 80
    assert judged.coverage[100] == 60
    assert reliability([1.0, 0.0], [True, False]).expected_error == 0


@pytest.mark.parametrize("right", [[True] * 4, [False] * 4])
def test_answers_of_one_kind_are_refused(right: list[bool]) -> None:
    with pytest.raises(DataError, match="expected some of both kinds"):
        fit([{"likelihood": float(n)} for n in range(4)], right, keep=1.0)


# The file


def test_a_calibration_travels_with_its_reader(tmp_path: Path) -> None:
    reader = calibrated(0.4)
    reader.save_pretrained(tmp_path)
    again = Reader.from_pretrained(tmp_path)
    assert again.calibration == reader.calibration
    again.calibration = None
    again.save_pretrained(tmp_path)  # other weights have no use for it
    assert not (tmp_path / FILE).exists()
    assert Reader.from_pretrained(tmp_path).calibration is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("{", "Expecting property name"),
        ("[]", "expected keys and values, got an empty list"),
        ('{"signals": {}, "intercept": 0, "threshold": 2}', "threshold: expected"),
        (
            '{"signals": {}, "intercept": NaN, "threshold": 0.5}',
            "intercept: expected a finite number, got NaN",
        ),
        ('{"signals": {}, "intercept": 0, "threshold": 0.5, "version": 2}', "this fidkit reads 1"),
        (
            '{"signals": {"mood": {"weight": 1, "mean": 0, "deviation": 1}}, "intercept": 0, "threshold": 0}',
            "mood",
        ),
        (
            '{"signals": {"end": {"weight": 1, "mean": 0, "deviation": 0}}, "intercept": 0, "threshold": 0}',
            "than 0",
        ),
        ('{"signals": {}, "intercept": 0, "threshold": 0, "more": 1}', "unknown key 'more'"),
    ],
)
def test_a_damaged_calibration_is_said(tmp_path: Path, text: str, says: str) -> None:
    calibrated(0.4).save_pretrained(tmp_path)
    (tmp_path / FILE).write_text(text)
    with pytest.raises(CheckpointError, match=says):
        Reader.from_pretrained(tmp_path)


def test_confidence_is_a_probability_whatever_the_signals() -> None:
    steep = Calibration(
        signals={"end": Signal(weight=1e300, mean=0, deviation=1e-3)}, intercept=0.0, threshold=0.0
    )
    assert [steep.confidence({"end": value}) for value in (-1e9, 0.0, 1e9)] == pytest.approx([0.0, 0.5, 1.0])


def test_the_file_is_readable(tmp_path: Path) -> None:
    calibration = fit(*drawn(100), keep=0.9, fitted_on="questions")
    calibration.save(tmp_path / FILE)
    record = json.loads((tmp_path / FILE).read_text())
    assert list(record) == ["signals", "intercept", "threshold", "fitted_on", "version"]
    assert Calibration.load(tmp_path / FILE) == calibration


def test_signals_do_not_depend_on_the_config() -> None:
    assert "calibration" not in ReaderConfig.model_fields
