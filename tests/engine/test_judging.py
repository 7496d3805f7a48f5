"""What confidence knows of the meaning of what an answer stands in."""

import logging
import math
import unicodedata
from dataclasses import replace

import pytest

from fidkit import Answerer, Passage
from fidkit.calibration import Calibration, Signal
from fidkit.engine import meaning
from fidkit.engine.evidence import Looked
from fidkit.engine.judging import judged
from fidkit.reader import Reader
from fidkit.types import Answer, Evidence

EMBED = meaning.embedding()
OF_TOKENS = {"likelihood": -1.0, "length": 0.0, "least": -1.0, "margin": 0.0, "end": -3.0}
LOOKED = Looked([[1.0]], [[None]], [OF_TOKENS])
TEXT = "The flat costs 845 euros. The dog barks at night."


def on(signal: str, threshold: float = 0.0) -> Calibration:
    return Calibration(
        signals={signal: Signal(weight=1.0, mean=0.0, deviation=1.0)}, intercept=0.0, threshold=threshold
    )


def answer_from(text: str, sentence: str, quoted: str) -> Answer:
    start = text.index(quoted)
    place = (start, start + len(quoted))
    return Answer(quoted, -1.0, (Evidence(Passage("1", "", text), 1.0, place, place, sentence),))


def judge(question: str, answer: Answer, calibration: Calibration | None, embed=EMBED) -> Answer:
    (given,) = judged([answer], [question], LOOKED, calibration, embed)
    return given


RENT = answer_from(TEXT, "The flat costs 845 euros.", "845 euros")
QUESTION = "How much is the rent?"


def test_meaning_is_the_cosine_of_the_question_and_the_sentence_of_the_answer() -> None:
    asked, sentence = meaning.minilm().questions([QUESTION, "The flat costs 845 euros."])
    cosine = float(asked @ sentence)
    given = judge(QUESTION, RENT, on("meaning"))
    assert given.signals["meaning"] == pytest.approx(cosine, abs=1e-5)
    assert given.confidence == pytest.approx(1 / (1 + math.exp(-cosine)), abs=1e-5)
    assert judge(QUESTION, RENT, on("meaning", 0.9)).text == ""
    assert judge(QUESTION, RENT, on("meaning", given.confidence)).text == RENT.text
    other = answer_from(TEXT, "The dog barks at night.", "The dog")
    assert judge(QUESTION, other, on("meaning")).signals["meaning"] < cosine - 0.1


def test_each_answer_is_compared_with_its_own_question() -> None:
    questions = [QUESTION, "When does the dog bark?"]
    answers = [RENT, answer_from(TEXT, "The dog barks at night.", "at night")]
    looked = Looked([[1.0]] * 2, [[None]] * 2, [OF_TOKENS] * 2)
    together = judged(answers, questions, looked, on("meaning"), EMBED)
    for given, question, answer in zip(together, questions, answers, strict=True):
        alone = judge(question, answer, on("meaning"))
        assert given.signals["meaning"] == pytest.approx(alone.signals["meaning"], abs=1e-5)


def test_meaning_is_compared_where_confidence_asks_for_it() -> None:
    nowhere = Answer("845 euros", -1.0, (Evidence(Passage("1", "", TEXT), 1.0),))
    assert meaning.embedding_for(None) is meaning.embedding_for(on("likelihood")) is None
    assert meaning.embedding_for(on("meaning")) is EMBED
    assert "meaning" not in judge(QUESTION, RENT, on("meaning"), None).signals
    assert "meaning" not in judge(QUESTION, nowhere, on("meaning")).signals
    assert "meaning" in judge(QUESTION, RENT, None).signals  # it is about to be calibrated


@pytest.mark.parametrize("character", ["a ", "집", "ﷺ", "é", "\N{CJK UNIFIED IDEOGRAPH-5BB6}"])
def test_long_texts_are_compared_as_far_as_the_encoder_reads(
    character: str, caplog: pytest.LogCaptureFixture
) -> None:
    long, seen = character * 400, []

    def embed(texts):
        seen.extend(texts)
        return EMBED(texts)

    with caplog.at_level(logging.WARNING):
        answer = answer_from(long, long, character.strip())
        assert "meaning" in judge(long, answer, on("meaning"), embed).signals
    assert not caplog.records
    # A character may be as many tokens as it has letters and marks.
    assert all(0 < len(unicodedata.normalize("NFKD", text)) <= 250 for text in seen)


def test_what_an_answer_stands_in_need_not_be_read_first() -> None:
    (stands,) = RENT.evidence
    answer = replace(RENT, evidence=(Evidence(Passage("2", "", "Tea comes from China."), 0.6), stands))
    found, alone = (judge(QUESTION, one, on("meaning")).signals["meaning"] for one in (answer, RENT))
    assert found == pytest.approx(alone, abs=1e-5)


def test_without_what_runs_it_meaning_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meaning, "has_torch", lambda: False)
    monkeypatch.setattr(meaning.native, "kernels", lambda: None)
    assert meaning.embedding() is None


def test_a_long_sentence_is_compared_where_the_answer_stands() -> None:
    seen: list[str] = []

    def embed(texts):
        seen.extend(texts)
        return EMBED(texts)

    text = " ".join(f"word{n}" for n in range(200))
    judge("what?", answer_from(text, text, "word150"), on("meaning"), embed)
    assert len(seen) == 2
    assert "word149 word150 word151" in seen[1]
    assert len(seen[1]) < len(text) / 2


def test_bundled_readers_know_meaning_but_with_fidkits_own_documents() -> None:
    passages = [Passage("1", "", TEXT)]
    with Answerer.open() as own, Answerer("pocket") as qa:
        assert "meaning" in qa.read(QUESTION, passages).signals
        assert "meaning" not in own.read(QUESTION, passages).signals
    raw = Answerer(Reader.from_preset("tiny-fid")).read(QUESTION, passages)
    assert "meaning" not in raw.signals
