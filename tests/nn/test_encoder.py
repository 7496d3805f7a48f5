import pytest
import torch

from fidkit.nn.rows import Rows
from oracles import batch_of, random_reader, small, stack

EXAMPLES = [([3, 4], [[5, 6, 7], [8]], [9, 1]), ([10, 11, 12], [[13, 14]], [15, 16, 1])]


@pytest.mark.parametrize("live", [0, 1, 2])
def test_the_memory_encoder_is_frozen(live: int) -> None:
    reader = random_reader(small(live_layers=live, question_in_context="once")).train()
    reader(batch_of(EXAMPLES)).loss.backward()
    assert all(not p.requires_grad and p.grad is None for p in reader.memory_encoder.parameters())
    others = [p for n, p in reader.named_parameters() if not n.startswith("memory_encoder")]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in others)


def test_without_memory_layers_everything_is_trained() -> None:
    reader = random_reader(small()).train()
    reader(batch_of(EXAMPLES)).loss.backward()
    assert reader.memory_encoder.embedding is reader.embedding
    assert all(p.requires_grad and p.grad is not None for p in reader.parameters())


def gradients(**knobs) -> dict[str, torch.Tensor | None]:
    reader = random_reader(small(**knobs)).train()
    reader(batch_of(EXAMPLES)).loss.backward()
    return {name: p.grad for name, p in reader.named_parameters()}


def part_of(found: dict[str, torch.Tensor | None], part: str) -> list[torch.Tensor | None]:
    return [grad for name, grad in found.items() if name.startswith(part)]


@pytest.mark.parametrize("live", [0, 1, 3])
def test_a_projection_of_frozen_memory_is_trained(live: int) -> None:
    found = gradients(live_layers=live, memory_encoder=stack(2, width=20), question_in_context="once")
    assert found["memory_projection.weight"].abs().sum() > 0
    assert part_of(found, "memory_encoder.") == [None] * len(part_of(found, "memory_encoder."))


@pytest.mark.parametrize("memory", [None, stack(2, width=20)])
def test_memory_that_is_not_frozen_is_trained(memory) -> None:
    found = gradients(live_layers=1, memory_encoder=memory, frozen=())
    assert all(grad is not None and grad.abs().sum() > 0 for grad in part_of(found, "memory_encoder."))


def test_a_frozen_question_encoder() -> None:
    found = gradients(live_layers=1, frozen=("memory", "question"), shared_embedding=False)
    assert set(part_of(found, "question_encoder.")) == {None}
    # Nothing but questions is embedded there, and no gradient goes through frozen layers.
    assert found["embedding.weight"] is None
    assert all(grad is not None for grad in part_of(found, "live_encoder."))
    assert all(grad is not None for grad in part_of(gradients(live_layers=1), "question_encoder."))


def test_what_is_frozen_never_drops_out() -> None:
    reader = random_reader(small(live_layers=1, dropout=0.5, frozen=("question",))).train()
    batch = batch_of(EXAMPLES)
    asked = [reader.encode_questions(batch.question_ids, batch.question_lengths) for _ in range(2)]
    remembered = [reader.encode_passages(batch.passage_ids, batch.passage_lengths) for _ in range(2)]
    assert torch.equal(*asked)
    assert not torch.equal(*remembered)


def test_scores_get_no_gradient_from_the_answer() -> None:
    found = gradients(rerank={"after": 1, "keep": 1})
    assert set(part_of(found, "reranker.")) == {None}
    assert all(grad is not None for grad in part_of(found, "live_encoder."))


@pytest.mark.parametrize("first", [1, 2, 3])
def test_two_parts_one_after_the_other_are_the_whole(first: int) -> None:
    layers = random_reader(small(dropout=0.3)).live_encoder.train()
    rows, x = Rows(torch.tensor([4, 2])), torch.randn(6, 16)
    torch.manual_seed(1)
    whole = layers(x, rows)
    torch.manual_seed(1)
    front, rest = layers.parts(first)
    assert torch.equal(rest(front(x, rows), rows), whole)
    assert {id(p) for part in (front, rest) for p in part.parameters()} <= set(map(id, layers.parameters()))


def test_memory_is_the_same_while_training() -> None:
    reader = random_reader(small(live_layers=1, dropout=0.5))
    batch = batch_of(EXAMPLES)
    expected = reader.encode_passages(batch.passage_ids, batch.passage_lengths)
    reader.train()
    for _ in range(2):
        assert torch.equal(reader.encode_passages(batch.passage_ids, batch.passage_lengths), expected)


def test_dropout_only_in_training() -> None:
    reader, batch = random_reader(small(dropout=0.5)), batch_of(EXAMPLES)
    assert torch.equal(reader(batch).logits, reader(batch).logits)
    plain = random_reader(small(dropout=0.0))
    assert torch.equal(reader(batch).logits, plain(batch).logits)
    reader.train()
    assert not torch.equal(reader(batch).logits, reader(batch).logits)
    assert torch.equal(plain.train()(batch).logits, plain.eval()(batch).logits)
