"""Beam search against enumeration, against a search in plain Python, and against transformers."""

import functools
import itertools
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.generation.test_generate import READERS, ready
from engine.toy import END, Toy, all_answers, contexts_of, log_probability, naive_beam
from fidkit.context import IGNORED
from fidkit.convert import import_t5
from fidkit.engine.generation import beam
from fidkit.engine.generation.beam import searching_beams
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.generate import Generated, generate, greedy
from fidkit.engine.generation.rules import Rules
from fidkit.engine.generation.steps import whole
from oracles import EXAMPLES, NaiveReader, batch_of, hf_batch_context, hf_t5, questions, quick

MOST = 6
penalties = st.sampled_from([-0.5, 0.0, 0.6, 1.0, 2.0])


def answers(generated: Generated) -> list[list[int]]:
    return [[t for t in row if t != IGNORED] for row in generated.ids_BT.tolist()]


@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_with_beams_for_every_prefix_it_is_enumeration(seed: int, length_penalty: float) -> None:
    toy, most = Toy(seed=seed), 4
    everything = all_answers(5, most)
    beams = len(everything)  # 341: every hypothesis finds room, so none is lost and none ends the search
    decoding = Decoding(max_tokens=most, beams=beams, n_best=9, length_penalty=length_penalty)
    generated = generate(toy, contexts_of(seed), decoding)
    follow = toy.next(seed)
    score = {tuple(a): log_probability(follow, a) / len(a) ** length_penalty for a in everything}
    expected = sorted(score, key=lambda answer: -score[answer])[:9]
    assert [tuple(a) for a in answers(generated)] == expected
    assert generated.scores.tolist() == pytest.approx([score[a] for a in expected], abs=1e-4)


@settings(quick, max_examples=5 * EXAMPLES)
@given(seed=st.integers(0, 999), beams=st.integers(2, 6), most=st.integers(1, 7), length_penalty=penalties)
def test_a_toy_is_searched_as_in_plain_python(
    seed: int, beams: int, most: int, length_penalty: float
) -> None:
    toy = Toy(seed=seed)
    decoding = Decoding(max_tokens=most, beams=beams, n_best=beams, length_penalty=length_penalty)
    generated = generate(toy, contexts_of(3, 1, 4), decoding)
    for number, question in enumerate((3, 1, 4)):
        expected = naive_beam(toy.next(question), beams, most, length_penalty)
        found = answers(generated)[number * beams : (number + 1) * beams]
        assert found[: len(expected)] == [answer for _, answer in expected]
        scores = generated.scores[number * beams : (number + 1) * beams].tolist()
        assert scores[: len(expected)] == pytest.approx([score for score, _ in expected], abs=1e-4)
        assert scores[len(expected) :] == [float("-inf")] * (beams - len(expected))
        assert found[len(expected) :] == [[]] * (beams - len(expected))


@pytest.mark.parametrize("name", READERS)
@quick
@given(examples=questions(most=3), seed=st.integers(0, 3), beams=st.integers(2, 4), length_penalty=penalties)
def test_a_reader_is_searched_as_in_plain_python(
    examples, seed: int, beams: int, length_penalty: float, name: str
) -> None:
    """The plain one has neither caches nor batches: rows that go on from the wrong row would differ."""
    reader = ready(name, seed)
    naive = NaiveReader(reader)
    decoding = Decoding(max_tokens=MOST, beams=beams, n_best=2, length_penalty=length_penalty)
    with torch.no_grad():
        generated = generate(reader, reader.read(batch_of(examples)), decoding)
        for number, (question, passages, _) in enumerate(examples):
            context = naive.context(question, passages)

            def follow(written, context=context):
                return naive._decode([0, *written], context)[-1].log_softmax(-1)

            expected = naive_beam(follow, beams, MOST, length_penalty)[:2]
            assert answers(generated)[2 * number : 2 * number + 2] == [answer for _, answer in expected]
            scores = generated.scores[2 * number : 2 * number + 2].tolist()
            assert scores == pytest.approx([score for score, _ in expected], abs=1e-4)


@pytest.mark.parametrize("name", READERS)
@quick
@given(examples=questions(most=4), seed=st.integers(0, 5))
def test_one_beam_is_greedy(examples, seed: int, name: str) -> None:
    reader = ready(name, seed)
    with torch.no_grad():
        context = reader.read(batch_of(examples))
        rules = Rules(Decoding(), END, context.states_BMD, None)
        searched = whole(searching_beams(reader, context, Decoding(max_tokens=MOST), rules))
    written = greedy(reader, context, MOST)
    assert searched.ids_BT.tolist() == written.ids_BT.tolist()
    torch.testing.assert_close(searched.log_probabilities_BT, written.log_probabilities_BT)


@quick
@given(examples=questions(most=4), seed=st.integers(0, 5), beams=st.integers(2, 4))
def test_a_batch_is_its_questions_one_by_one(examples, seed: int, beams: int) -> None:
    reader = ready("fido", seed)
    decoding = Decoding(max_tokens=MOST, beams=beams, n_best=beams)

    def search(some) -> Generated:
        with torch.no_grad():
            return generate(reader, reader.read(batch_of(some)), decoding)

    assert answers(search(examples)) == [row for one in examples for row in answers(search([one]))]


@quick
@given(examples=questions(), seed=st.integers(0, 5))
def test_scores_are_those_of_teacher_forcing(examples, seed: int) -> None:
    reader = ready("fid", seed)
    context = reader.read(batch_of(examples))
    best = generate(reader, context, Decoding(max_tokens=MOST, beams=4, n_best=3, length_penalty=0.5)).best
    with torch.no_grad():
        expected = reader.decode(best.ids_BT, context).log_softmax(-1)
    real = best.ids_BT != IGNORED
    chosen = expected.gather(2, best.ids_BT.clamp(min=0)[..., None])[..., 0] * real
    torch.testing.assert_close(best.log_probabilities_BT, chosen, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(best.scores, chosen.sum(1) / real.sum(1) ** 0.5, atol=1e-4, rtol=1e-4)


# Against transformers

QUESTION = [5, 6, 7]
PASSAGES = [[2 + (7 * i + j * j) % 35 for j in range(length)] for i, length in enumerate([31, 1, 60, 8])]


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory):
    """A random model of transformers and the same as a reader."""
    pytest.importorskip("transformers")

    @functools.cache
    def made(tied: bool, seed: int):
        directory, model = tmp_path_factory.mktemp("t5"), hf_t5(tied=tied, seed=seed)
        with torch.no_grad():
            # transformers counts the token that starts an answer among its n-grams.
            model.shared.weight[0] = 0
            if not tied:
                model.lm_head.weight[END] *= 3
        model.save_pretrained(directory)
        return model, import_t5(directory)[0]

    return made


@pytest.mark.parametrize("tied", [True, False], ids=["v1.0", "v1.1"])
@pytest.mark.parametrize("passages", [PASSAGES[2:3], PASSAGES], ids=["T5", "FiD"])
@pytest.mark.parametrize(
    "values",
    [
        {"beams": 2},
        {"beams": 4, "n_best": 4},
        {"beams": 4, "n_best": 2, "length_penalty": 0.0},
        {"beams": 3, "length_penalty": 2.5, "min_tokens": 3},
        {"beams": 4, "n_best": 3, "no_repeat_ngram": 2},
    ],
    ids=str,
)
@torch.no_grad()
def test_transformers_finds_the_same(tied: bool, passages, values: dict, twins) -> None:
    from transformers.modeling_outputs import BaseModelOutput

    ended = 0
    for seed in range(2):
        model, reader = twins(tied, seed)
        decoding = Decoding(max_tokens=8, **values)
        generated = generate(reader, reader.read(batch_of([(QUESTION, passages, [1])])), decoding)
        states, mask = hf_batch_context(model, [QUESTION + passage for passage in passages])
        theirs = model.generate(
            encoder_outputs=BaseModelOutput(states),
            attention_mask=mask,
            num_beams=decoding.beams,
            num_return_sequences=decoding.n_best,
            length_penalty=decoding.length_penalty,
            min_new_tokens=decoding.min_tokens,
            max_new_tokens=decoding.max_tokens,
            no_repeat_ngram_size=decoding.no_repeat_ngram,
            early_stopping=False,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
        )
        for ours, row in zip(answers(generated), theirs.sequences.tolist(), strict=True):
            assert row[0] == 0
            assert ours == row[1 : 1 + len(ours)]
            assert set(row[1 + len(ours) :]) <= {0, END}  # padding
            ended += ours[-1] == END
        assert generated.scores.tolist() == pytest.approx(theirs.sequences_scores.tolist(), abs=1e-4)
    # The search is not always cut off at the limit, unless long answers are wanted.
    assert tied or ended or decoding.length_penalty > 1


@pytest.mark.parametrize("beams", [2, 3, 4])
def test_short_endings_of_no_worth_dont_end_the_search(beams: int) -> None:
    """What is all but certain at each of five tokens, beside two ways to end at once that hardly ever are."""

    class Sure(Toy):
        def logits(self, question: int, written: Sequence[int]) -> torch.Tensor:
            likely = [3, 4, 2, 3, 4]
            goes_on = len(written) < 5 and list(written) == likely[: len(written)]
            weights = torch.full((self.config.vocabulary_size,), -6.0)
            weights[likely[len(written)] if goes_on else END] = 0.0
            return weights

    [best] = answers(generate(Sure(), contexts_of(1), Decoding(max_tokens=9, beams=beams)))
    assert best == [3, 4, 2, 3, 4, END]


# Limits and cost


def test_minimum_stop_and_repetition_hold_for_every_hypothesis() -> None:
    toy = Toy(vocabulary=6)
    decoding = Decoding(max_tokens=9, min_tokens=2, beams=5, n_best=5, stop=((4, 2), (5,)), no_repeat_ngram=2)
    found = answers(generate(toy, contexts_of(*range(8)), decoding))
    for answer in found:
        assert END not in answer[:2]
        assert answer[-1] in (END, 5) or answer[-2:] == [4, 2] or len(answer) == 9
        assert not {END, 5} & set(answer[:-1])
        pairs = list(itertools.pairwise(answer))
        assert (4, 2) not in pairs[:-1]
        assert len(set(pairs)) == len(pairs)
    ends = {tuple(answer[-2:]) == (4, 2) or answer[-1] for answer in found}
    assert {True, END, 5} <= ends


@pytest.mark.parametrize("seed", range(4))
def test_looking_seldom_changes_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device runs on for a few steps after the last answer has ended."""
    toy, context = Toy(seed=seed), contexts_of(1, 2, 3)
    decoding = Decoding(max_tokens=20, beams=3, n_best=3)
    often = generate(toy, context, decoding)
    monkeypatch.setattr(beam, "time_to_look", lambda *_: False)
    seldom = generate(toy, context, decoding)
    assert seldom.ids_BT.tolist() == often.ids_BT.tolist()
    assert seldom.scores.tolist() == often.scores.tolist()
    assert often.lengths.max() < 20


def test_beams_share_the_cross_attention_cache() -> None:
    reader = ready("fid")
    context = reader.read(batch_of([([3], [[4, 5], [6]], [1]), ([7], [[8]], [1])]))
    one, many = reader.start(context, 5, 1), reader.start(context, 5, 16)
    assert many.cross_bytes == one.cross_bytes
    assert many.self_keys.nbytes == 16 * one.self_keys.nbytes
    before = [x.data_ptr() for pair in many.cross for x in pair]
    with torch.no_grad():
        reader.step(torch.zeros(32, dtype=torch.long), many)
    many.select(torch.arange(32).view(2, 16).flip(1).flatten())
    assert [x.data_ptr() for pair in many.cross for x in pair] == before


def test_watch_sees_the_best_answers_at_the_end() -> None:
    seen: list[list[int]] = []
    decoding = Decoding(max_tokens=6, beams=4, n_best=2)
    generated = generate(Toy(), contexts_of(1, 2, 3), decoding, lambda ids: seen.append(ids.tolist()))
    assert torch.tensor(seen).T.tolist() == generated.best.ids_BT.tolist()
    assert generated.best.n_best == 1
    assert generated.best.scores.tolist() == generated.scores[::2].tolist()
