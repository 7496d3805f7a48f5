import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fidkit.batch import IGNORED
from fidkit.engine.generate import greedy
from fidkit.reader import Reader
from oracles import NaiveReader, batch_of, questions, quick, random_reader, small, stack

MOST = 8

READERS = {
    "fid": small(),
    "fid, T5 v1.0": small(block="t5", tied_head=True),
    "fid-light": small(kept_vectors=3),
    "fido": small(
        decoder=stack(4, width=12),
        shared_embedding=False,
        cross_attention_every=2,
        self_kv_heads=1,
        cross_kv_heads=1,
    ),
    "memoryfid": small(live_layers=0, question_in_context="once"),
    "lumen": small(live_layers=1),
}


def ready(name: str, seed: int = 0) -> Reader:
    """A random reader that ends at different lengths: the end of sequence is likelier than by chance."""
    reader = random_reader(READERS[name], seed)
    with torch.no_grad():
        if not reader.config.tied_head:
            reader.head.linear.weight[reader.config.end_token] *= 3
    return reader


def written(reader: Reader, examples, most: int = MOST) -> list[list[int]]:
    generated = greedy(reader, reader.read(batch_of(examples)), most)
    return [[t for t in row if t != IGNORED] for row in generated.ids_BT.tolist()]


@pytest.mark.parametrize("name", READERS)
@quick
@given(examples=questions(most=4), seed=st.integers(0, 5))
def test_greedy_is_the_naive_loop(examples, seed: int, name: str) -> None:
    reader = ready(name, seed)
    naive = NaiveReader(reader)
    with torch.no_grad():
        expected = [naive.greedy(question, passages, MOST) for question, passages, _ in examples]
    assert written(reader, examples) == expected


@pytest.mark.parametrize("name", READERS)
@quick
@given(examples=questions(most=4), seed=st.integers(0, 5))
def test_a_batch_is_its_questions_one_by_one(examples, seed: int, name: str) -> None:
    reader = ready(name, seed)
    assert written(reader, examples) == [written(reader, [example])[0] for example in examples]


@quick
@given(examples=questions(), seed=st.integers(0, 5))
def test_scores_are_those_of_teacher_forcing(examples, seed: int) -> None:
    reader = ready("fido", seed)
    context = reader.read(batch_of(examples))
    generated = greedy(reader, context, MOST)
    expected = reader.decode(generated.ids_BT, context).log_softmax(-1)
    real = generated.ids_BT != IGNORED
    chosen = expected.gather(2, generated.ids_BT.clamp(min=0)[..., None])[..., 0]
    torch.testing.assert_close(generated.log_probabilities_BT, chosen * real, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(generated.scores, (chosen * real).sum(1) / real.sum(1), atol=1e-4, rtol=1e-4)
    assert generated.lengths.tolist() == real.sum(1).tolist()


def scripted(monkeypatch: pytest.MonkeyPatch, rows: list[list[int]]) -> tuple[Reader, list[list[int]]]:
    """A reader that wants these tokens whatever it reads, and what it was given at each step."""
    reader, given_ids = ready("fid"), []

    def step(ids: torch.Tensor, cache: object) -> torch.Tensor:
        wanted = torch.tensor([row[len(given_ids)] for row in rows])
        given_ids.append(ids.tolist())
        return 5 * torch.nn.functional.one_hot(wanted, 37).float()

    monkeypatch.setattr(reader, "step", step)
    return reader, given_ids


def test_it_stops_when_every_question_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, given_ids = scripted(monkeypatch, [[5, 1, 9, 9, 9], [1, 9, 9, 9, 9], [6, 7, 1, 9, 9]])
    context = reader.read(batch_of([([3], [[4]], [1])] * 3))
    generated = greedy(reader, context, 5)
    assert generated.ids_BT.tolist() == [[5, 1, IGNORED], [1, IGNORED, IGNORED], [6, 7, 1]]
    assert generated.lengths.tolist() == [2, 1, 3]
    assert (generated.log_probabilities_BT != 0).sum(1).tolist() == [2, 1, 3]
    assert given_ids[0] == [0, 0, 0]  # the padding token starts


@pytest.mark.parametrize("most", [1, 3])
def test_it_stops_at_the_limit(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    reader, _ = scripted(monkeypatch, [[5, 6, 7, 8]])
    generated = greedy(reader, reader.read(batch_of([([3], [[4]], [1])])), most)
    assert generated.ids_BT.tolist() == [[5, 6, 7][:most]]
