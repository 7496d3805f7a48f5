import pytest
import torch

from oracles import batch_of, random_reader, small

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
