"""Leaving a passage out at the decoder is never having found it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fidkit.answerer import Answerer
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.generate import generate
from fidkit.engine.generation.steps import whole
from fidkit.engine.runner import Runner
from fidkit.engine.tested import leave_out
from fidkit.errors import UsageError
from fidkit.reader import Reader
from fidkit.tokens import Tokenizer
from fidkit.train.data.vocabulary import assemble
from fidkit.types import Passage
from oracles import batch_of, questions, quick, random_reader, small, stack

LETTERS = assemble([(piece, -1.0) for piece in "abcdefgh"])
DECODING = Decoding(max_tokens=5, min_tokens=2)


def reader_of(seed: int, **knobs) -> Reader:
    config = small(
        encoder=stack(head_width=16),
        decoder=stack(2, head_width=16),
        vocabulary_size=LETTERS.get_vocab_size(),
        **knobs,
    )
    reader = random_reader(config, seed)
    reader.tokenizer = Tokenizer(LETTERS, config)
    return reader


@quick
@given(
    examples=questions(),
    knobs=st.sampled_from(
        [
            {},
            {"question_in_context": "once", "live_layers": 1},
            {"kept_vectors": 2},
            {"token_skip": True, "tied_head": True},
        ]
    ),
    plain=st.booleans(),
)
@torch.no_grad()
def test_it_is_reading_the_other_passages(examples, knobs, plain: bool) -> None:
    reader = reader_of(0, **knobs)
    runner, batch = Runner(reader, plain=plain), batch_of(examples)
    context = runner.read(batch)
    written = generate(runner, context, DECODING)
    all_of_them = [range(len(passages)) for _, passages, _ in examples]
    found = whole(leave_out(runner, context, written, all_of_them, DECODING, reader.tokenizer))
    for number, (question, passages, _) in enumerate(examples):
        answer = [i for i in written.ids_BT[number].tolist() if i >= 0]
        assert found[number].keys() == (set(range(len(passages))) if len(passages) > 1 else set())
        for left, without in found[number].items():
            others = passages[:left] + passages[left + 1 :]
            alone = reader.read(batch_of([(question, others, [1])]))
            ids = generate(reader, alone, DECODING).ids_BT[0].tolist()
            assert without.text == reader.tokenizer.decode([i for i in ids if i >= 0])
            scores = reader.decode(torch.tensor([answer]), alone).log_softmax(-1)
            expected = scores[0, range(len(answer)), answer].mean()
            assert without.score == pytest.approx(expected.item(), abs=1e-4)


PASSAGES = [Passage(str(n), "", text) for n, text in enumerate(("a b c", "d e f g", "h a"))]


def test_evidence_that_costs_most_comes_first() -> None:
    with Answerer(reader_of(3), device="cpu", precision="float32") as qa:
        plain = qa.read("a b", PASSAGES, decoding=DECODING)
        answer = qa.read("a b", PASSAGES, decoding=DECODING, test_evidence=2)
    assert [e.without is None for e in plain.evidence] == [True] * 3
    tested = [e for e in answer.evidence if e.without is not None]
    assert [e.passage for e in answer.evidence[:2]] == [e.passage for e in tested]
    assert {e.passage for e in tested} == {e.passage for e in plain.evidence[:2]}
    assert tested[0].without.score <= tested[1].without.score
    assert (answer.text, answer.score) == (plain.text, plain.score)
    assert "test" in answer.timings_ms
    assert answer.evidence[0].to_json()["without"] == {
        "answer": tested[0].without.text,
        "score": tested[0].without.score,
    }


@pytest.mark.parametrize("knobs", [{}, {"question_in_context": "once", "live_layers": 1}])
def test_one_passage_leaves_nothing_to_read_without_it(knobs: dict) -> None:
    """A question that stands by itself in the context is nothing to answer from."""
    with Answerer(reader_of(3, **knobs), device="cpu", precision="float32") as qa:
        answer = qa.read("a", PASSAGES[:1], test_evidence=3)
        assert answer.evidence[0].without is None
        [note] = answer.notes
        assert note == "evidence was not tested: a single passage was read, and nothing is left without it"
        assert qa.read("a", [], test_evidence=3).notes[-1] == "evidence was not tested: no passage was read"
        assert qa.read("a", PASSAGES[:2], test_evidence=3).notes == ()


def test_what_is_no_number_of_tests_is_refused() -> None:
    with Answerer(reader_of(3), device="cpu", precision="float32") as qa:
        for wrong in (-1, 1.5, True, "3"):
            with pytest.raises(UsageError, match="expected how many passages to test"):
                qa.read("a", PASSAGES, test_evidence=wrong)
