from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from engine.toy import Toy, contexts_of
from fidkit.context import IGNORED
from fidkit.engine.generation import beam
from fidkit.engine.generation import generate as generation
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.generate import cut_off, generate, greedy
from fidkit.engine.generation.steps import time_to_look
from fidkit.engine.runner import Runner
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


class HostWaits(TorchDispatchMode):
    """Counts what makes a host wait for its device: values that are read, shapes that depend on values."""

    OPERATIONS: ClassVar = {
        torch.ops.aten._local_scalar_dense,
        torch.ops.aten.item,
        torch.ops.aten.is_nonzero,
        torch.ops.aten.nonzero,
        torch.ops.aten.masked_select,
        torch.ops.aten.equal,
        torch.ops.aten.lift_fresh,  # a tensor made of Python numbers, which has to be copied to a device
    }

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        by_mask = func is torch.ops.aten.index.Tensor and any(
            i is not None and i.dtype == torch.bool for i in args[1]
        )
        self.count += func.overloadpacket in self.OPERATIONS or by_mask
        return func(*args, **kwargs or {})


DECODINGS = [
    Decoding(no_repeat_ngram=2, min_tokens=3, stop=((4, 5, 6, 7),)),
    Decoding(beams=3, n_best=2, no_repeat_ngram=2, min_tokens=3, stop=((4, 5, 6, 7),)),
    Decoding(temperature=2, top_k=9, top_p=0.9, n_best=2),
]


WAYS = pytest.mark.parametrize("decoding", DECODINGS, ids=["greedy", "beams", "samples"])


@WAYS
@quick
@given(examples=questions(), seed=st.integers(0, 5))
def test_a_runner_writes_what_the_reader_writes(examples, seed: int, decoding: Decoding) -> None:
    wide = stack(2, head_width=16)
    reader = random_reader(small(encoder=wide, decoder=wide, self_kv_heads=1, cross_kv_heads=2), seed)
    runner, decoding = Runner(reader, "float32"), replace(decoding, max_tokens=MOST)
    expected = generate(reader, reader.read(batch_of(examples)), decoding)
    found = generate(runner, runner.read(batch_of(examples)), decoding)
    assert found.ids_BT.tolist() == expected.ids_BT.tolist()
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=1e-4)


@WAYS
@pytest.mark.parametrize("name", ["fid", "fido"])
def test_no_step_waits_for_its_device(name: str, decoding: Decoding, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "time_to_look", lambda *_: False)
    monkeypatch.setattr(beam, "time_to_look", lambda *_: False)
    reader = ready(name)
    context = reader.read(batch_of([([3], [[4], [5, 6]], [1]), ([7], [[8]], [1])]))

    def waits(most: int) -> int:
        with HostWaits() as seen:
            generate(reader, context, replace(decoding, max_tokens=most))
        return seen.count

    assert waits(20) == waits(4) > 0


def test_a_look_at_a_value_is_seen_as_a_wait() -> None:
    with HostWaits() as seen:
        torch.ones(3)[torch.ones(3) > 0].sum().item()
    assert seen.count == 2


@pytest.mark.parametrize(
    "decoding", [Decoding(max_tokens=20), Decoding(max_tokens=20, temperature=1, n_best=3)]
)
def test_looking_seldom_changes_nothing(decoding: Decoding, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device runs on for a few steps after the last answer has ended."""
    toy, context = Toy(), contexts_of(1, 2, 3)
    often = generate(toy, context, decoding)
    monkeypatch.setattr(generation, "time_to_look", lambda *_: False)
    seldom = generate(toy, context, decoding)
    assert seldom.ids_BT.tolist() == often.ids_BT.tolist()
    assert seldom.log_probabilities_BT.tolist() == often.log_probabilities_BT.tolist()
    assert often.lengths.max() < 20


@pytest.mark.parametrize("how", [{}, {"beams": 3, "n_best": 2}, {"temperature": 1, "n_best": 3}])
def test_an_answer_is_cut_off_where_it_would_have_gone_on(how: dict[str, Any]) -> None:
    toy, context = Toy(), contexts_of(*range(12))
    for most in (1, 2, 3):
        decoding = Decoding(max_tokens=most, **how)
        generated = generate(toy, context, decoding)
        cut = cut_off(toy.config, context, generated, decoding)
        ends = [row[row != IGNORED].tolist()[-1] == toy.config.end_token for row in generated.best.ids_BT]
        assert cut == [not ended for ended in ends]
        assert any(cut)
    assert not all(cut)
    # A stop that comes with the last token is an end too.
    stopped = replace(decoding, stop=tuple((token,) for token in range(toy.config.vocabulary_size)))
    assert cut_off(toy.config, context, generated, stopped) == [False] * 12
    assert cut_off(toy.config, context, generated, replace(decoding, max_tokens=4)) == [False] * 12


def test_a_device_is_looked_at_every_few_steps() -> None:
    looks = [time_to_look(step, torch.empty(0, device="meta")) for step in range(32)]
    assert 2 <= sum(looks) <= 8
    assert all(time_to_look(step, torch.empty(0)) for step in range(32))


def test_watch_sees_each_token_as_it_comes() -> None:
    seen: list[list[int]] = []
    decoding = Decoding(max_tokens=6, temperature=1)
    generated = generate(Toy(), contexts_of(1, 2, 3), decoding, lambda ids: seen.append(ids.tolist()))
    assert torch.tensor(seen).T.tolist() == generated.ids_BT.tolist()


def test_watch_sees_the_best_of_several_samples() -> None:
    seen: list[list[int]] = []
    decoding = Decoding(max_tokens=6, temperature=1, n_best=4)
    generated = generate(Toy(), contexts_of(1, 2, 3), decoding, lambda ids: seen.append(ids.tolist()))
    assert torch.tensor(seen).T.tolist() == generated.best.ids_BT.tolist()


def test_greedy_keeps_to_the_rules() -> None:
    rules = {"min_tokens": 2, "stop": ((4, 2), (5,)), "no_repeat_ngram": 1}
    toy, questions_asked = Toy(vocabulary=6), range(12)
    generated = generate(toy, contexts_of(*questions_asked), Decoding(max_tokens=9, **rules))
    for number, row in enumerate(generated.ids_BT.tolist()):
        expected: list[int] = []
        while not expected or not (expected[-1] in (1, 5) or expected[-2:] == [4, 2] or len(expected) == 9):
            follow = toy.next(number)(expected).tolist()
            allowed = [v for v in range(6) if v not in expected and (v != 1 or len(expected) >= 2)]
            expected.append(max(allowed, key=lambda v: follow[v]))
        assert [t for t in row if t != IGNORED] == expected
