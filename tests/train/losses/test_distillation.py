"""Scores learn from how likely each passage alone makes the answer."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fidkit.context import Batch
from fidkit.reader import Reader
from fidkit.train.losses.distillation import answer_likelihoods, each_passage, perplexity_distillation
from oracles import NaiveReader, batch_of, questions, quick, random_reader, small, stack

EXAMPLES = [([3, 4], [[5, 6, 7], [8], [9, 10]], [9, 1]), ([10, 11, 12], [[13, 14]], [15, 16, 1])]
GLIMMER = small(live_layers=2, rerank={"after": 1, "keep": 1})


def memory_of(reader: Reader, batch: Batch) -> torch.Tensor:
    return reader.encode_passages(batch.passage_ids, batch.passage_lengths)


@quick
@given(examples=questions(), wide=st.booleans())
def test_likelihoods_are_those_of_each_passage_alone(examples, wide: bool) -> None:
    knobs = {"memory_encoder": stack(2, width=20).model_dump()} if wide else {}
    reader, batch = random_reader(GLIMMER.replace(**knobs)), batch_of(examples)
    found = answer_likelihoods(reader, batch, memory_of(reader, batch))
    naive = NaiveReader(reader)
    for number, (question, passages, target) in enumerate(examples):
        for place, passage in enumerate(passages):
            logits = naive.logits(question, [passage], target)
            wanted = -F.cross_entropy(logits, torch.tensor(target), reduction="sum")
            torch.testing.assert_close(found[number, place], wanted, rtol=1e-4, atol=1e-4)
        assert (found[number, len(passages) :] == -torch.inf).all()


def test_likelihoods_are_a_target_without_dropout() -> None:
    reader, batch = random_reader(GLIMMER.replace(dropout=0.5)), batch_of(EXAMPLES)
    calm = answer_likelihoods(reader, batch, memory_of(reader, batch))
    reader.train()
    found = answer_likelihoods(reader, batch, memory_of(reader, batch))
    assert torch.equal(found, calm)
    assert not found.requires_grad
    assert reader.training
    assert not reader.memory_encoder.encoder.training  # frozen, as before


def test_each_passage_is_a_question_of_its_own() -> None:
    alone = each_passage(batch_of(EXAMPLES))
    assert alone.question_of_passage.tolist() == [0, 1, 2, 3]
    assert alone.question_lengths.tolist() == [2, 2, 2, 3]
    assert alone.labels[:, 0].tolist() == [9, 9, 9, 15]


SOME = torch.tensor([[0.3, -1.0, 2.0], [1.0, 0.5, -torch.inf]])
OTHER = torch.tensor([[-2.0, -5.0, -1.0], [-3.0, -4.0, -torch.inf]])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_loss_is_the_divergence_of_two_distributions(temperature: float) -> None:
    expected = []
    for scores, likelihoods in zip(SOME.tolist(), OTHER.tolist(), strict=True):
        n = sum(x > -torch.inf for x in scores)
        ranked, wanted = (
            torch.distributions.Categorical(logits=torch.tensor(row[:n]) / temperature)
            for row in (scores, likelihoods)
        )
        expected.append(torch.distributions.kl_divergence(wanted, ranked))
    found = perplexity_distillation(SOME, OTHER, temperature)
    torch.testing.assert_close(found, torch.stack(expected).mean())


def test_no_loss_where_scores_are_the_likelihoods() -> None:
    shifted = OTHER + torch.tensor([[7.0], [-3.0]])  # a constant a question makes no difference
    assert float(perplexity_distillation(shifted, OTHER)) == pytest.approx(0, abs=1e-6)
    alone = torch.tensor([[4.0]])
    assert float(perplexity_distillation(alone, -alone)) == 0


def test_every_passage_learns_also_those_left_behind() -> None:
    scores = SOME.clone().requires_grad_()
    perplexity_distillation(scores, OTHER).backward()
    real = -torch.inf < SOME
    assert (scores.grad[real] != 0).all()
    assert scores.grad.isfinite().all()
    reader, batch = random_reader(GLIMMER).train(), batch_of(EXAMPLES[:1])
    context = reader.read(batch)
    assert context.passage_BM.unique().numel() == 1
    perplexity_distillation(context.scores_BN, torch.tensor([[-9.0, -1.0, -9.0]])).backward()
    changed = {name for name, p in reader.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {"reranker.weight", "live_encoder.layers.0.attention.query.weight"} <= changed
    # What comes after the scores has no part in them.
    assert not any(name.startswith(("live_encoder.layers.1", "decoder.", "head.")) for name in changed)


def test_scores_come_to_rank_as_the_likelihoods_do() -> None:
    reader, batch = random_reader(GLIMMER).train(), batch_of(EXAMPLES[:1])
    wanted = torch.tensor([[-6.0, -2.0, -4.0]])
    trained = [p for p in reader.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=0.01)
    for _ in range(60):
        loss = perplexity_distillation(reader.read(batch).scores_BN, wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    reader.eval()
    found = reader.read(batch)
    assert found.scores_BN.argsort(descending=True).tolist() == [[1, 2, 0]]
    assert found.passage_BM.unique().tolist() == [1]
