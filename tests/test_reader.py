"""One reader, many names: each equals its definition, and what must not matter doesn't."""

import itertools
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fidkit.config import RerankConfig
from fidkit.context import IGNORED, Batch, Context, collate
from fidkit.cost import parameters
from fidkit.preset import PRESETS, named
from fidkit.reader import Reader, parameter_count
from oracles import NaiveReader, batch_of, questions, quick, random_reader, small, stack, tokens

LAYERS = 3
ENCODERS = st.sampled_from(["t5", "t5-v1.1", "bert", "mpnet"])
DECODERS = st.sampled_from(["t5", "t5-v1.1", "umt5"])
alphas = st.integers(0, LAYERS)
SIGHTS = ["full", "passage-sees-question", "question-sees-passage", "apart"]
MEMORIES = [None, stack(4), stack(2, width=20, heads=2, head_width=5, feed_forward=24)]


def reranks(live: int) -> st.SearchStrategy[RerankConfig | None]:
    some = st.builds(RerankConfig, after=st.integers(1, max(1, live)), keep=st.integers(1, 5))
    return st.none() | some if live else st.none()


@st.composite
def configs(draw, **fixed):
    width = fixed.pop("decoder_width", draw(st.sampled_from([16, 12])))
    live = fixed.get("live_layers", draw(alphas))
    knobs = {
        "decoder": stack(draw(st.integers(2, 3)), width=width).replace(family=draw(DECODERS)),
        "shared_embedding": width == 16 and draw(st.booleans()),
        "encoder": stack().replace(family=draw(ENCODERS)),
        "tied_head": draw(st.booleans()),
        "live_layers": live,
        "memory_encoder": draw(st.sampled_from(MEMORIES)),
        "live_attention": draw(st.sampled_from(SIGHTS)),
        "rerank": draw(reranks(live)),
        "kept_vectors": draw(st.none() | st.integers(1, 6)),
        "question_in_context": draw(st.sampled_from(["each", "once", "none"])),
        "cross_attention_every": draw(st.integers(1, 2)),
        "self_kv_heads": draw(st.sampled_from([1, 2, 4])),
        "cross_kv_heads": draw(st.sampled_from([1, 2, 4])),
    }
    return small(**knobs | fixed)


def same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def equals_its_definition(reader: Reader, examples) -> None:
    """States, logits and loss of a batch against one question and one passage at a time."""
    batch, naive = batch_of(examples), NaiveReader(reader)
    context, output = reader.read(batch), reader(batch)
    losses = []
    for number, (question, passages, target) in enumerate(examples):
        same(context.states_BMD[number][context.mask_BM[number]], naive.context(question, passages))
        expected = naive.logits(question, passages, target)
        same(output.logits[number, : len(target)], expected)
        losses.append(torch.nn.functional.cross_entropy(expected, torch.tensor(target), reduction="none"))
    same(output.loss, torch.cat(losses).mean())
    assert output.tokens == sum(len(target) for _, _, target in examples)


@quick
@given(examples=questions(), tied=st.booleans())
def test_all_layers_live_is_naive_fid(examples, tied: bool) -> None:
    config = small(tied_head=tied, block="t5" if tied else "t5-v1.1")
    equals_its_definition(random_reader(config), examples)


@pytest.mark.parametrize("apart", [False, True], ids=["as split", "trained apart"])
@pytest.mark.parametrize("live", range(LAYERS + 1))
@quick
@given(examples=questions())
def test_lumen_at_every_alpha_is_its_definition(examples, live: int, apart: bool) -> None:
    equals_its_definition(random_reader(small(live_layers=live), apart=apart), examples)


@pytest.mark.parametrize("place", ["each", "once", "none"])
@quick
@given(examples=questions(), live=alphas)
def test_question_in_context(examples, live: int, place: str) -> None:
    equals_its_definition(random_reader(small(live_layers=live, question_in_context=place)), examples)


@pytest.mark.parametrize("sight", SIGHTS)
@quick
@given(examples=questions(), live=alphas)
def test_who_sees_whom_in_live_layers(examples, live: int, sight: str) -> None:
    equals_its_definition(random_reader(small(live_layers=live, live_attention=sight)), examples)


@pytest.mark.parametrize("memory", MEMORIES[1:], ids=["deeper", "wider"])
@pytest.mark.parametrize("live", range(LAYERS + 1))
@quick
@given(examples=questions())
def test_a_memory_encoder_of_its_own_shape(examples, live: int, memory) -> None:
    equals_its_definition(random_reader(small(live_layers=live, memory_encoder=memory)), examples)


@pytest.mark.parametrize(("live", "after"), [(live, a) for live in (1, 2, 3) for a in range(1, live + 1)])
@quick
@given(examples=questions(), keep=st.integers(1, 5))
def test_rerank_is_its_definition(examples, keep: int, live: int, after: int) -> None:
    reader = random_reader(small(live_layers=live, rerank=RerankConfig(after=after, keep=keep)))
    equals_its_definition(reader, examples)
    context = reader.read(batch_of(examples))
    naive = NaiveReader(reader)
    for number, (question, passages, _) in enumerate(examples):
        wanted = torch.tensor(naive.scores(question, passages))
        same(context.scores_BN[number, : len(passages)], wanted)
        assert (context.scores_BN[number, len(passages) :] == -torch.inf).all()
        best = sorted(wanted.topk(min(keep, len(passages))).indices.tolist())
        origin = context.passage_BM[number][context.mask_BM[number]].unique_consecutive().tolist()
        assert origin == best  # the numbers that passages had before, in their order


@quick
@given(config=configs(live_layers=2, rerank=RerankConfig(after=1, keep=9)), examples=questions())
def test_reranking_that_keeps_all_is_reading_all(config, examples) -> None:
    reranking, plain = random_reader(config), Reader(config.replace(rerank=None)).eval()
    plain.load_state_dict({n: w for n, w in reranking.state_dict().items() if not n.startswith("reranker.")})
    batch = batch_of(examples)
    assert torch.equal(reranking.read(batch).states_BMD, plain.read(batch).states_BMD)
    assert plain.read(batch).scores_BN is None


def test_a_new_reader_keeps_the_first_passages() -> None:
    """Its scores are equal, and passages come as the search ranked them."""
    reader = Reader(small(rerank=RerankConfig(after=1, keep=2))).eval()
    context = reader.read(batch_of([([3], [[4, 5], [6], [7, 8], [9]], [1])]))
    assert context.scores_BN.tolist() == [[0, 0, 0, 0]]
    assert context.passage_BM[0].unique().tolist() == [0, 1]


def test_the_memory_is_as_wide_as_its_encoder() -> None:
    reader = random_reader(small(live_layers=1, memory_encoder=stack(2, width=20)))
    batch = batch_of([([3], [[4, 5], [6]], [1])])
    memory = reader.encode_passages(batch.passage_ids, batch.passage_lengths)
    assert memory.shape == (3, 20)
    with torch.no_grad():
        reader.memory_projection.weight.normal_()
    # Training the projection leaves what is stored valid.
    assert torch.equal(reader.encode_passages(batch.passage_ids, batch.passage_lengths), memory)


@quick
@given(config=configs(), examples=questions())
def test_steps_are_teacher_forcing(config, examples) -> None:
    reader, batch = random_reader(config), batch_of(examples)
    context = reader.read(batch)
    wanted = reader.decode(batch.labels, context)
    cache = reader.start(context, wanted.shape[1])
    ids = torch.full((len(examples),), config.pad_token)
    for position in range(wanted.shape[1]):
        same(reader.step(ids, cache), wanted[:, position])
        ids = batch.labels[:, position].clamp(min=0)


@quick
@given(config=configs(), examples=questions(), seed=st.integers(0, 9))
def test_every_combination_is_its_definition(config, examples, seed: int) -> None:
    equals_its_definition(random_reader(config, seed, apart=True), examples)


@quick
@given(examples=questions(), every=st.integers(1, 3), own=st.sampled_from([1, 2, 4]))
def test_sparse_and_multi_query_decoders_are_their_definition(examples, every: int, own: int) -> None:
    knobs = {"cross_attention_every": every, "self_kv_heads": own, "cross_kv_heads": 1}
    equals_its_definition(random_reader(small(decoder=stack(3), **knobs)), examples)


@torch.no_grad()
def logits(reader: Reader, batch: Batch) -> torch.Tensor:
    return reader(batch).logits[batch.labels != IGNORED]


@quick
@given(config=configs(kept_vectors=None), examples=questions())
def test_fid_light_at_full_length_is_fid(config, examples) -> None:
    fid, light = (random_reader(config.replace(kept_vectors=kept)) for kept in (None, 100))
    assert torch.equal(logits(fid, batch_of(examples)), logits(light, batch_of(examples)))


@quick
@given(examples=questions(most=1), kept=st.integers(1, 8), live=alphas)
def test_kept_vectors_are_the_first_of_each_passage(examples, kept: int, live: int) -> None:
    whole, light = (random_reader(small(live_layers=live, kept_vectors=n)) for n in (None, kept))
    batch = batch_of(examples)
    full, cut = whole.read(batch), light.read(batch)
    rows = [full.states_BMD[0][full.passage_BM[0] == n][:kept] for n in range(len(examples[0][1]))]
    assert torch.equal(cut.states_BMD[0], torch.cat(rows))


@quick
@given(
    config=configs(),
    example=st.tuples(tokens(), st.lists(tokens(), min_size=2, max_size=4, unique_by=tuple), tokens(1, 6)),
)
def test_the_order_of_passages_does_not_matter(config, example) -> None:
    question, passages, target = example
    reader = random_reader(config)
    orders = itertools.islice(itertools.permutations(passages), 6)
    batch = batch_of([(question, list(order), target) for order in orders])
    found = reader(batch).logits
    same(found, found[:1].expand_as(found))


def padded(ids: torch.Tensor, more: int, value: int) -> torch.Tensor:
    return torch.nn.functional.pad(ids, (0, more), value=value)


@quick
@given(config=configs(), examples=questions(), more=st.tuples(*[st.integers(0, 5)] * 3))
def test_padding_does_not_matter(config, examples, more) -> None:
    reader, batch = random_reader(config), batch_of(examples)
    wider = Batch(
        padded(batch.question_ids, more[0], 7),
        batch.question_lengths,
        padded(batch.passage_ids, more[1], 8),
        batch.passage_lengths,
        batch.question_of_passage,
        padded(batch.labels, more[2], IGNORED),
    )
    same(logits(reader, wider), logits(reader, batch))
    same(reader(wider).loss, reader(batch).loss)


@quick
@given(config=configs(), examples=questions())
def test_padding_of_the_context_does_not_matter(config, examples) -> None:
    reader, batch = random_reader(config), batch_of(examples)
    context = reader.read(batch)
    B, M, D = context.states_BMD.shape
    junk = Context(
        torch.cat([context.states_BMD, 50 * torch.randn(B, 3, D)], 1),
        padded(context.mask_BM, 3, False),
        padded(context.passage_BM, 3, -1),
        padded(context.token_BM, 3, -1),
    )
    assert junk.mask_BM.shape[1] == M + 3
    same(reader.decode(batch.labels, junk), reader.decode(batch.labels, context))


@quick
@given(config=configs(), examples=questions())
def test_a_batch_is_its_questions_one_by_one(config, examples) -> None:
    reader = random_reader(config)
    together = reader(batch_of(examples)).logits
    for number, example in enumerate(examples):
        alone = reader(batch_of([example])).logits[0]
        same(together[number, : len(alone)], alone)


@quick
@given(config=configs(live_layers=1), examples=questions())
def test_memory_at_hand_is_memory_computed(config, examples) -> None:
    reader, batch = random_reader(config, apart=True), batch_of(examples)
    memory = reader.encode_passages(batch.passage_ids, batch.passage_lengths)
    read, computed = reader.read_memory(batch, memory), reader.read(batch)
    assert torch.equal(read.states_BMD, computed.states_BMD)


@quick
@given(examples=questions(), live=alphas)
def test_the_context_knows_where_its_vectors_come_from(examples, live: int) -> None:
    context = random_reader(small(live_layers=live)).read(batch_of(examples))
    for number, (question, passages, _) in enumerate(examples):
        lengths = [len(question) + len(passage) for passage in passages]
        origin = [i for i, length in enumerate(lengths) for _ in range(length)]
        token = [t for passage in passages for t in [*[-1] * len(question), *range(len(passage))]]
        assert context.passage_BM[number].tolist()[: sum(lengths)] == origin
        assert context.token_BM[number].tolist()[: sum(lengths)] == token
        assert context.mask_BM[number].sum() == sum(lengths)


@quick
@given(config=configs(rerank=None), examples=questions())
def test_bfloat16_is_near_float32(config, examples) -> None:
    """Within 6 % of the spread of the logits on average: 8 bits of mantissa through 5 to 6 layers."""
    # Not rerank: passages with nearly equal scores change places.
    reader, batch = random_reader(config), batch_of(examples)
    exact = logits(reader, batch)
    near = logits(reader.to(torch.bfloat16), batch)
    assert near.dtype == torch.float32
    assert (near - exact).pow(2).mean().sqrt() < 0.06 * exact.std()


def test_a_question_without_passages_reads_the_empty_passage() -> None:
    reader = random_reader(small())
    empty = collate([[3, 4], [5]], [[], [[6, 7]]], [[8, 1], [9, 1]], empty_passage=[1])
    spelt_out = collate([[3, 4], [5]], [[[1]], [[6, 7]]], [[8, 1], [9, 1]])
    assert torch.equal(reader(empty).logits, reader(spelt_out).logits)


@quick
@given(config=configs(), examples=questions())
def test_the_loss_of_real_tokens_only_is_the_loss(config, examples) -> None:
    reader, batch = random_reader(config), batch_of(examples)
    output = reader(batch)
    same(reader.answer_loss(batch.labels, reader.read(batch)) / output.tokens, output.loss)


def test_no_labels() -> None:
    with pytest.raises(ValueError, match="no labels"):
        random_reader(small())(collate([[3]], [[[4]]]))


# Sizes


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("fid-small", 77.0),
        ("fid-base", 247.6),
        ("fid-large", 783.2),
        ("fid-xl", 2849.8),
        ("fid-xxl", 11135.3),
        ("fido-small-large", 370.9),
        ("fido-base-base", 208.8),
        ("fido-base-xl", 1237.9),
        ("fido-large-xxl", 4577.2),
        ("fido-xl-xxl", 5460.0),
    ],
)
def test_parameter_counts_of_the_papers(name: str, millions: float) -> None:
    assert abs(parameter_count(named(name)) / 1e6 - millions) <= 0.1


# Sizes of a variant differ in numbers alone: all of them in the slow suite.
OTHER_SIZES = re.compile("-(small|large|xl|xxl)(-|$)")
EVERY = [pytest.param(n, marks=pytest.mark.slow if OTHER_SIZES.search(n) else ()) for n in sorted(PRESETS)]


@pytest.mark.parametrize("name", EVERY)
def test_every_preset_can_be_built(name: str) -> None:
    config = named(name)
    reader = Reader.without_weights(config)
    assert [layer.cross_attention is not None for layer in reader.decoder.layers] == [*config.cross_layers]
    assert len(reader.live_encoder.layers) == config.live
    assert len(reader.question_encoder.layers) == config.encoder.layers - config.live
    assert len(reader.memory_encoder.encoder.layers) == config.memory_layers
    assert all(p.device.type == "meta" for p in reader.parameters())
    assert sum(p.numel() for p in reader.parameters()) == parameters(config)


def test_a_split_encoder_costs_the_copy_of_its_first_layers() -> None:
    fid, lumen = (named(f"{name}-base") for name in ("fid", "lumen"))
    # 8 of 12 layers and the embedding twice, the table three times.
    layer = 4 * 768 * 768 + 3 * 768 * 2048 + 2 * 768
    assert parameter_count(lumen) - parameter_count(fid) == 8 * layer + 32128 * 768 + 2 * 32 * 12


def test_presets_have_weights_by_seed() -> None:
    one, same_seed, other = (Reader.from_preset("tiny-lumen-fido", seed) for seed in (1, 1, 2))
    assert not one.training
    assert one.tokenizer is not None
    weights = [dict(r.named_parameters()) for r in (one, same_seed, other)]
    assert all(torch.equal(p, weights[1][name]) for name, p in weights[0].items())
    assert not torch.equal(weights[0]["embedding.weight"], weights[2]["embedding.weight"])
