"""Auxiliary losses point at the very vectors that hold the answer, in every reader of the family."""

from itertools import product

import pytest
import torch

from fidkit.context import Batch, Context
from fidkit.reader import Reader
from fidkit.train.losses.auxiliary import (
    Auxiliary,
    Places,
    _point,
    _positions_in,
    find_places,
    occurrences,
)
from fidkit.train.specs import GuideSpec
from oracles import batch_of, random_reader, small

END = 1
# Question, passages, target. The answers stand in two passages, twice in one, and nowhere.
EXAMPLES = [
    ([2, 3], [[10, 11, 12, END], [20, 21, 22, 23, END], [11, 12, 30, END]], [11, 12, END]),
    ([4, 5, 6], [[13, 14, 13, 15, END]], [13, END]),
    ([7], [[16, 17, END], [18, END]], [31, END]),
]
SYSTEMS = {
    "fid": {},
    "fid-light": {"kept_vectors": 4},
    "lumen": {"live_layers": 1},
    "lumen-light": {"live_layers": 1, "kept_vectors": 2, "question_in_context": "none"},
    "memoryfid": {"live_layers": 0, "question_in_context": "once"},
    "fido": {"cross_attention_every": 2, "cross_kv_heads": 1},
    "glimmer": {"rerank": {"after": 1, "keep": 2}},
}


def places_of(examples=EXAMPLES) -> Places:
    return find_places([e[1] for e in examples], [e[2] for e in examples])


def rows(places: Places) -> list[tuple[int, ...]]:
    columns = (places.question, places.step, places.passage, places.token, places.first, places.last)
    return sorted(zip(*(column.int().tolist() for column in columns), strict=True))


@pytest.mark.parametrize(
    ("tokens", "wanted", "starts"),
    [
        ([1, 2, 1, 2, 1], [1, 2, 1], [0, 2]),
        ([5, 5, 5], [5], [0, 1, 2]),
        ([1, 2], [1, 2], [0]),
        ([1, 2], [1, 2, 3], []),
        ([1, 2], [2, 1], []),
        ([1, 2], [], []),
        ([], [1], []),
    ],
)
def test_occurrences(tokens: list[int], wanted: list[int], starts: list[int]) -> None:
    assert occurrences(tokens, wanted) == starts


def test_places_are_every_token_of_every_occurrence() -> None:
    assert rows(places_of()) == [
        (0, 0, 0, 1, 1, 0),
        (0, 0, 2, 0, 1, 0),
        (0, 1, 0, 2, 0, 1),
        (0, 1, 2, 1, 0, 1),
        (1, 0, 0, 0, 1, 1),
        (1, 0, 0, 2, 1, 1),
    ]
    assert rows(places_of(EXAMPLES[2:])) == []


def transparent(**knobs) -> Reader:
    """A reader whose encoder layers add nothing: a context vector is its token's embedding, normed."""
    reader = random_reader(small(**knobs))
    with torch.no_grad():
        for stack in (reader.question_encoder, reader.live_encoder, reader.memory_encoder.encoder):
            for layer in stack.layers:
                layer.attention.out.weight.zero_()
                layer.feed_forward.out.weight.zero_()
    return reader


@pytest.mark.parametrize("where", ["each", "once", "none"])
@pytest.mark.parametrize(("live", "keep"), list(product([3, 1, 0], [None, 1, 4])))
@torch.no_grad()
def test_a_place_is_found_where_its_token_is(where: str, live: int, keep: int | None) -> None:
    reader = transparent(live_layers=live, kept_vectors=keep, question_in_context=where)
    batch, places = batch_of(EXAMPLES), places_of()
    context = reader.read(batch)
    position, kept = _positions_in(context, batch, places)
    for n, (question, _, passage, token, *_) in enumerate(rows_in_order(places)):
        before = len(EXAMPLES[question][0]) if where == "each" else 0
        assert bool(kept[n]) == (keep is None or before + token < keep)
        if kept[n]:
            wanted = torch.tensor(EXAMPLES[question][1][passage][token])
            state = reader.live_encoder.norm(reader.embedding(wanted))
            torch.testing.assert_close(context.states_BMD[question, position[n]], state)


def rows_in_order(places: Places) -> list[tuple[int, ...]]:
    columns = (places.question, places.step, places.passage, places.token)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def attention(context: Context, at: torch.Tensor, places: Places, height: float) -> torch.Tensor:
    """Scores [B, H, T, M] that favour the wanted vectors by `height`."""
    scores = torch.zeros(len(EXAMPLES), 4, 3, context.mask_BM.shape[1])
    scores = scores.masked_fill(~context.mask_BM[:, None, None], -1e9)
    scores[places.question, :2, places.step, at] += height
    return scores


@torch.no_grad()
def test_guidance_is_free_where_heads_look_at_the_answer_and_costly_elsewhere() -> None:
    reader, batch, places = transparent(), batch_of(EXAMPLES), places_of()
    auxiliary, context = Auxiliary(reader), reader.read(batch)
    at, _ = _positions_in(context, batch, places)

    def guide(height: float) -> float:
        for layer in (0, 1):
            auxiliary.probe(layer, attention(context, at, places, height))
        return float(auxiliary.losses(batch, context, places)["guide"])

    assert guide(40.0) == pytest.approx(0, abs=1e-4)
    assert guide(-40.0) > 30
    # Even attention misses by the share of the wanted vectors: 2 of 19 in two steps, 2 of 8 in one.
    expected = torch.tensor([2 / 19, 2 / 19, 2 / 8]).log().neg().mean()
    assert guide(0.0) == pytest.approx(float(expected), abs=1e-5)


def test_only_the_last_layers_with_cross_attention_are_guided() -> None:
    reader = random_reader(small(decoder=small().decoder.replace(layers=6), cross_attention_every=2))
    auxiliary = Auxiliary(reader)
    for layer in range(6):
        auxiliary.probe(layer, torch.full((1, 4, 1, 1), float(layer)))
    assert [scores.flatten().tolist() for scores in auxiliary._scores] == [[3.0] * 2, [5.0] * 2]
    every = Auxiliary(reader, GuideSpec(layers=1, heads="all"))
    for layer in range(6):
        every.probe(layer, torch.full((1, 4, 1, 1), float(layer)))
    assert [scores.flatten().tolist() for scores in every._scores] == [[5.0] * 4]


def test_only_what_is_wanted_is_there() -> None:
    reader = random_reader(small()).train()
    auxiliary, batch, places = Auxiliary(reader), batch_of(EXAMPLES), places_of()
    assert auxiliary.losses(batch, reader.read(batch), places, ["pointer"]).keys() == {"pointer"}
    context = reader.read(batch)
    reader.decode(batch.labels, context, auxiliary.probe)
    assert auxiliary.losses(batch, context, places, ["guide", "overlap"]).keys() == {"guide", "overlap"}


def test_the_pointer_is_free_where_it_marks_first_and_last_token() -> None:
    places, mask = places_of(EXAMPLES[:1]), torch.tensor([[True] * 4 + [False]])
    position, kept = places.token, torch.ones(len(places.token), dtype=torch.bool)
    logits = torch.zeros(1, 5, 2)
    # Answers begin at 0 and 1, end at 1 and 2; padding counts for nothing, however likely.
    logits[0, [0, 1], 0] = logits[0, [1, 2], 1] = 40.0
    logits[0, 4] = 90.0
    assert float(_point(logits, mask, places, position, kept)) == pytest.approx(0, abs=1e-4)
    assert float(_point(-logits, mask, places, position, kept)) > 30
    even = _point(torch.zeros(1, 5, 2), mask, places, position, kept)
    assert float(even) == pytest.approx(float(torch.tensor(2.0).log()), abs=1e-5)


def losses_of(reader: Reader, auxiliary: Auxiliary, batch: Batch, places: Places) -> dict[str, torch.Tensor]:
    context = reader.read(batch)
    reader.decode(batch.labels, context, auxiliary.probe)
    return auxiliary.losses(batch, context, places)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_reader_learns_from_them_while_training_only(name: str) -> None:
    reader = random_reader(small(**SYSTEMS[name]))
    auxiliary = Auxiliary(reader)
    batch, places = batch_of(EXAMPLES), places_of()
    live = {"overlap"} if reader.config.live else set()

    reader.train(), auxiliary.train()
    losses = losses_of(reader, auxiliary, batch, places)
    assert losses.keys() == {"guide", "pointer"} | live
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in auxiliary.pointer.parameters())
    assert all((p.grad is not None) == bool(live) for p in auxiliary.overlap.parameters())
    assert reader.embedding.weight.grad.abs().sum() > 0

    reader.eval(), auxiliary.eval()
    with torch.inference_mode():
        losses = losses_of(reader, auxiliary, batch, places)
    assert losses.keys() == {"guide", "pointer"}
    assert not any(loss.requires_grad for loss in losses.values())


def test_without_any_place_only_the_overlap_is_learnt() -> None:
    reader = random_reader(small()).train()
    auxiliary = Auxiliary(reader)
    losses = losses_of(reader, auxiliary, batch_of(EXAMPLES[2:]), places_of(EXAMPLES[2:]))
    assert losses.keys() == {"overlap"}


@torch.no_grad()
def test_a_place_in_a_passage_that_was_left_behind_is_none() -> None:
    reader = random_reader(small(rerank={"after": 1, "keep": 1}))
    batch, places = batch_of(EXAMPLES), places_of()
    context = reader.read(batch)
    best = context.scores_BN.argmax(1)
    _, kept = _positions_in(context, batch, places)
    assert torch.equal(kept, best[places.question] == places.passage)
    assert 0 < kept.sum() < len(kept)


@torch.no_grad()
def test_the_overlap_is_free_where_shared_tokens_are_told_apart() -> None:
    reader = transparent()
    with torch.no_grad():
        # Tokens below 8 lie on one side of zero, the others on the other side.
        reader.embedding.weight.zero_()
        reader.embedding.weight[:, 0] = torch.where(torch.arange(len(reader.embedding.weight)) < 8, 1.0, -1.0)
    reader.train()
    auxiliary = Auxiliary(reader)
    auxiliary.overlap.weight.zero_()
    auxiliary.overlap.bias.zero_()
    shared = batch_of([([2, 3], [[2, 10, 3, 11], [12, 2]], [END]), ([4, 5, 6, 7], [[13, 7]], [END])])

    def overlap(height: float) -> float:
        auxiliary.overlap.weight[0, 0] = height
        return float(losses_of(reader, auxiliary, shared, places_of(EXAMPLES[2:]))["overlap"])

    for module in reader.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    assert overlap(20.0) == pytest.approx(0, abs=1e-4)
    assert overlap(-20.0) > 10
    assert overlap(0.0) == pytest.approx(float(torch.tensor(2.0).log()), abs=1e-5)
