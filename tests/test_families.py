"""Stacks of different families in one reader, and passages with a vocabulary of their own."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fidkit import families
from fidkit.config import ReaderConfig, StackConfig
from fidkit.convert import reshape
from fidkit.cost import parameters
from fidkit.engine.cuda.encoder import CudaEncoder
from fidkit.engine.fingerprint import memory_fingerprint
from fidkit.engine.generation.generate import greedy
from fidkit.engine.runner import Runner
from fidkit.errors import CheckpointError, ConfigError
from fidkit.nn.attention import CrossAttention
from fidkit.nn.blocks import blocks
from fidkit.nn.copying import start_copying
from fidkit.nn.families import t5
from fidkit.nn.families.t5 import T5Blocks
from fidkit.nn.layers import GatedFeedForward
from fidkit.reader import Reader, parameter_count
from fidkit.tokens import Tokenizer
from fidkit.train.data.documents import LocalDocuments
from fidkit.train.data.span_corruption import SpanCorruptionTask
from fidkit.train.data.vocabulary import assemble
from fidkit.train.loop.start import _changed
from fidkit.train.losses.teacher import Teacher
from fidkit.train.matching import match_and_copy
from fidkit.train.specs import TaskSpec
from fidkit.types import Passage
from naive_t5 import NaiveT5v11
from oracles import EXAMPLES, NAIVE, NaiveReader, batch_of, questions, quick, random_reader, small, stack
from test_reader import equals_its_definition

T5, V1_1 = "t5", "t5-v1.1"
FAMILIES = st.sampled_from(sorted(families.FAMILIES))


def of(family: str, *args, **sizes) -> StackConfig:
    return stack(*args, **sizes).replace(family=family)


def can_share(encoder: str, decoder: str) -> bool:
    """Words can be shared with any encoder; a decoder with positions of its own needs one of its family."""
    return decoder not in ("bert", "mpnet") or encoder == decoder


MIXED = small(encoder=of(T5), decoder=of(V1_1, 2))
OWN = {"memory_encoder": of(T5, 2), "memory_vocabulary_size": 23, "live_layers": 1}


@pytest.mark.parametrize(("encoder", "decoder"), [("bert", "mpnet"), ("mpnet", "bert"), ("t5", "mpnet")])
def test_an_embedding_with_positions_is_shared_within_a_family(encoder: str, decoder: str) -> None:
    with pytest.raises(ValueError, match="needs embeddings of one kind"):
        small(encoder=of(encoder), decoder=of(decoder, 2), shared_embedding=True)
    small(encoder=of(decoder), decoder=of(decoder, 2), shared_embedding=True)


def test_every_family_has_both_halves_and_an_oracle() -> None:
    for name, family in families.FAMILIES.items():
        assert family.name == name
        assert blocks(of(name)) is not None
    assert NAIVE.keys() == families.FAMILIES.keys()


@quick
@given(
    encoder=FAMILIES,
    decoder=FAMILIES,
    memory=FAMILIES,
    live=st.integers(0, 3),
    own=st.booleans(),
    examples=questions(),
)
def test_readers_of_several_families_are_their_definition(
    encoder, decoder, memory, live: int, own: bool, examples
) -> None:
    config = small(
        encoder=of(encoder),
        decoder=of(decoder, 2),
        memory_encoder=of(memory, 2),
        live_layers=live,
        shared_embedding=can_share(encoder, decoder),
    )
    if own:  # all tokens that passages have here are below it
        config = config.replace(memory_vocabulary_size=50)
    reader = random_reader(config, apart=True)
    equals_its_definition(reader, examples)
    assert parameters(config) == parameter_count(config)
    assert (reader.memory_projection is not None) == own


@quick
@given(encoder=FAMILIES, memory=FAMILIES, examples=questions(), live=st.integers(0, 2), own=st.booleans())
@torch.no_grad()
def test_memory_that_was_encoded_before_is_memory_encoded_inline(
    encoder: str, memory: str, examples, live: int, own: bool
) -> None:
    config = small(encoder=of(encoder), decoder=of(V1_1, 2), live_layers=live)
    if own:
        config = config.replace(memory_encoder=of(memory, 2), memory_vocabulary_size=37)
    reader = random_reader(config, apart=True)
    batch = batch_of(examples)
    stored = reader.encode_passages(batch.passage_ids, batch.passage_lengths)
    assert torch.equal(reader.read_memory(batch, stored).states_BMD, reader.read(batch).states_BMD)
    alone = [
        reader.encode_passages(ids[None, :length], length[None])
        for ids, length in zip(batch.passage_ids, batch.passage_lengths, strict=True)
    ]
    torch.testing.assert_close(torch.cat(alone), stored, atol=1e-5, rtol=1e-5)  # whatever the questions are


@quick
@given(encoder=FAMILIES, decoder=FAMILIES, examples=questions(), plain=st.booleans())
def test_the_runner_is_the_plain_reader(encoder, decoder, examples, plain: bool) -> None:
    wide = {"head_width": 16}
    stacks = {"encoder": of(encoder, **wide), "decoder": of(decoder, 2, **wide)}
    config = small(**stacks, live_layers=1, shared_embedding=can_share(encoder, decoder))
    reader, batch = random_reader(config), batch_of(examples)
    runner = Runner(reader, plain=plain)
    torch.testing.assert_close(
        runner.read(batch).states_BMD, reader.read(batch).states_BMD, atol=1e-4, rtol=1e-4
    )
    naive = NaiveReader(reader)
    found = greedy(runner, runner.read(batch), 3).ids_BT.tolist()
    for ids, (question, passages, _) in zip(found, examples, strict=True):
        assert [i for i in ids if i >= 0] == naive.greedy(question, passages, 3)


# A decoder that copies

COPYING = {
    "token_skip": st.booleans(),
    "standardised_embedding": st.booleans(),
    "head_bias": st.booleans(),
    "tied_head": st.booleans(),
}


@st.composite
def copying(draw, **fixed):
    """Readers whose decoder sees tokens beside their states, with whatever else there is."""
    encoder, decoder = draw(FAMILIES), draw(st.sampled_from([T5, V1_1]))
    live = draw(st.integers(0, 3))
    own = of(draw(FAMILIES), 2, width=20, head_width=5) if draw(st.booleans()) else None
    knobs = {name: draw(values) for name, values in COPYING.items()}
    knobs |= {
        "encoder": of(encoder, head_width=16),
        "decoder": of(decoder, 2, head_width=16),
        "memory_encoder": own,
        "live_layers": live,
        "rerank": draw(st.none() | st.just({"after": 1, "keep": 2})) if live else None,
        "kept_vectors": draw(st.sampled_from([None, 3])),
        "question_in_context": draw(st.sampled_from(["each", "once", "none"])),
        "cross_attention_every": draw(st.integers(1, 2)),
        "cross_kv_heads": draw(st.sampled_from([1, 4])),
    }
    return small(**knobs | fixed)


@settings(quick, max_examples=2 * EXAMPLES)
@given(config=copying(), examples=questions(), seed=st.integers(0, 9))
def test_a_decoder_that_copies_is_its_definition(config, examples, seed: int) -> None:
    reader = random_reader(config, seed, apart=True)
    equals_its_definition(reader, examples)
    assert parameters(config) == parameter_count(config)


@settings(quick, max_examples=2 * EXAMPLES)
@given(config=copying(token_skip=True), examples=questions(), beams=st.integers(1, 3))
@torch.no_grad()
def test_the_runner_copies_as_the_plain_reader_does(config, examples, beams: int) -> None:
    reader, batch = random_reader(config), batch_of(examples)
    runner, wanted = Runner(reader), reader.read(batch)
    found = runner.read(batch)
    torch.testing.assert_close(found.states_BMD, wanted.states_BMD, atol=1e-4, rtol=1e-4)
    ids = torch.randint(0, config.vocabulary_size, (3, beams * len(examples)))
    caches = [source.start(wanted, 3, beams) for source in (runner, reader)]
    for step in ids:
        logits = [source.step(step, cache) for source, cache in zip((runner, reader), caches, strict=True)]
        torch.testing.assert_close(*logits, atol=1e-4, rtol=1e-4)


@quick
@given(config=copying(token_skip=True), examples=questions())
@torch.no_grad()
def test_memory_stores_no_more_for_a_decoder_that_copies(config, examples) -> None:
    reader, batch = random_reader(config), batch_of(examples)
    memory_XD = reader.encode_passages(batch.passage_ids, batch.passage_lengths)
    assert memory_XD.shape == (int(batch.passage_lengths.sum()), config.memory_width)
    assert torch.equal(reader.read_memory(batch, memory_XD).states_BMD, reader.read(batch).states_BMD)


def test_the_standardised_table_follows_the_table() -> None:
    config = small(encoder=of("bert"), standardised_embedding=True, tied_head=True)
    reader = random_reader(config)
    words = reader.decoder.embedding
    with torch.no_grad():
        before = words.weight
        assert words.weight is before  # made once
        torch.testing.assert_close(before.mean(0), torch.zeros(16), atol=0.2, rtol=0)
        torch.testing.assert_close(before.norm(dim=1), torch.full((37,), 4.0))
        reader.embedding.weight.mul_(torch.rand(37, 1))
        assert not torch.equal(words.weight, before)
    assert words.weight.requires_grad
    assert Runner(reader, "bfloat16").reader.decoder.embedding.weight.dtype == torch.bfloat16
    assert "decoder.embedding.weight" not in dict(reader.named_parameters())


# A family without biases by distance, which no kernel suits


class Unplaced(T5Blocks):
    """T5 v1.1 that doesn't know where a token stands."""

    def encoder_bias(self, config, stack) -> None:
        return None

    def decoder_bias(self, config) -> None:
        return None


class NaiveUnplaced(NaiveT5v11):
    def _bias(self, name: str, length: int, *, bidirectional: bool) -> torch.Tensor:
        return torch.zeros(self.stack.heads, length, length)


@pytest.fixture
def unplaced(monkeypatch: pytest.MonkeyPatch) -> ReaderConfig:
    """A reader of that family, in a shape that kernels would take."""
    record = replace(families.FAMILIES[V1_1], name="unplaced", relative_bias=False, kernels=None)
    monkeypatch.setitem(families.FAMILIES, "unplaced", record)
    monkeypatch.setitem(t5.BLOCKS, "unplaced", Unplaced(GatedFeedForward))
    monkeypatch.setitem(NAIVE, "unplaced", NaiveUnplaced)
    wide = {"head_width": 16}
    return small(encoder=of("unplaced", **wide), decoder=of("unplaced", 2, **wide), live_layers=1)


EXAMPLES = [([3, 4], [[5, 6, 7], [8]], [9, 1]), ([10, 11, 12], [[13, 14]], [15, 16, 1])]


def test_a_family_without_biases_is_its_definition_and_trains(unplaced: ReaderConfig) -> None:
    reader, batch = random_reader(unplaced, apart=True), batch_of(EXAMPLES)
    equals_its_definition(reader, EXAMPLES)
    assert parameters(unplaced) == parameter_count(unplaced)
    assert not [name for name, _ in reader.named_parameters() if "relative_bias" in name]
    reader.train()(batch).loss.backward()
    assert all(p.grad is not None for p in reader.live_encoder.parameters())
    with pytest.raises(ConfigError, match="the encoder is of family unplaced, without the biases"):
        match_and_copy(reader, torch.Generator())


@torch.no_grad()
def test_what_no_kernel_suits_runs_on_the_plain_path(unplaced: ReaderConfig) -> None:
    reader, batch = random_reader(unplaced), batch_of(EXAMPLES)
    context, ids = reader.read(batch), torch.tensor([2, 3])
    expected = reader.step(ids, reader.start(context, 2))
    runner = Runner(reader)
    # A memory is encoded in company, whose matrix products may round a last bit otherwise.
    torch.testing.assert_close(runner.read(batch).states_BMD, context.states_BMD, rtol=1e-6, atol=1e-6)
    assert torch.equal(runner.step(ids, runner.start(context, 2)), expected)
    assert torch.equal(reader.read(batch, CudaEncoder()).states_BMD, context.states_BMD)
    rounded = Runner(reader, "int8")
    step = rounded.step(ids, rounded.start(rounded.read(batch), 2))
    assert not torch.equal(step, expected)
    torch.testing.assert_close(step, expected, atol=0.2, rtol=0.2)


# What is written


def test_one_family_is_said_once_and_several_by_each(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    small(block=T5).save(path)
    said = json.loads(path.read_text())
    assert list(said)[:5] == ["format_version", "encoder", "decoder", "vocabulary_size", "block"]
    assert said["block"] == T5
    assert "family" not in said["encoder"]
    assert ReaderConfig.load(path) == small(block=T5) == small(encoder=of(T5), decoder=of(T5, 2))
    MIXED.save(path)
    said = json.loads(path.read_text())
    assert "block" not in said
    assert (said["encoder"]["family"], said["decoder"]["family"]) == (T5, V1_1)
    assert ReaderConfig.load(path) == MIXED


def test_a_stack_that_takes_anothers_place_is_of_its_family() -> None:
    assert small(block=T5).replace(encoder=stack(5)).encoder.family == T5
    assert small(block=T5).replace(encoder=stack(5).model_dump(exclude={"family"})).encoder.family == T5
    assert small(block=T5, live_layers=1).replace(memory_encoder=stack(4)).memory_stack.family == T5
    assert MIXED.replace(block=V1_1) == small()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": {**stack().model_dump(), "family": "bart"}}, "'bart' is no family .* t5, t5-v1.1"),
        ({"memory_vocabulary_size": 9}, "needs a memory_encoder, whose vocabulary it is"),
        ({"memory_end_token": 3}, "needs memory_vocabulary_size"),
        ({**OWN, "memory_end_token": 23}, "end token is 23, but memory_vocabulary_size is 23"),
    ],
)
def test_what_cannot_be(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small().replace(**change)


def test_block_and_another_family_are_a_contradiction() -> None:
    with pytest.raises(ValueError, match=r"block is t5, but decoder\.family is t5-v1\.1"):
        small(decoder=of(V1_1, 2), block=T5)


# Passages with a vocabulary of their own


def vocabulary(pieces: str):
    return assemble([(piece, -1.0) for piece in pieces])


SHORT, LONG = vocabulary("ab"), vocabulary("abcdefgh")
SIZES = {"vocabulary_size": LONG.get_vocab_size() + 3, "memory_vocabulary_size": SHORT.get_vocab_size()}
BOTH = small(encoder=of(V1_1), decoder=of(V1_1, 2), **OWN | SIZES, memory_end_token=5)
PASSAGE = Passage("1", "a", "b a b")


def reader_with_both() -> Reader:
    reader = random_reader(BOTH, apart=True)
    reader.tokenizer = Tokenizer(LONG, BOTH, SHORT)
    return reader


def test_passages_go_through_their_own_tokenizer() -> None:
    tokenizer = reader_with_both().tokenizer
    [ids] = tokenizer.passages([PASSAGE])
    form = BOTH.passage_format.format(title="a", text="b a b")
    assert ids == [*SHORT.encode(form, add_special_tokens=False).ids, 5]
    assert tokenizer.target("ab") == [*LONG.encode("ab", add_special_tokens=False).ids, BOTH.end_token]
    other = Tokenizer(LONG, BOTH, vocabulary("xy"))
    assert other.fingerprint != tokenizer.fingerprint == Tokenizer(SHORT, BOTH, SHORT).fingerprint


def test_both_tokenizers_are_saved_checked_and_loaded(tmp_path: Path) -> None:
    reader = reader_with_both()
    reader.save_pretrained(tmp_path)
    again = Reader.from_pretrained(tmp_path)
    assert again.config == BOTH
    assert again.tokenizer.passages([PASSAGE]) == reader.tokenizer.passages([PASSAGE])
    assert again.fingerprint() == reader.fingerprint()
    assert memory_fingerprint(again) == memory_fingerprint(reader)
    assert all(torch.equal(p, dict(again.named_parameters())[n]) for n, p in reader.named_parameters())
    own = tmp_path / "memory_tokenizer.json"
    LONG.save(str(own))
    with pytest.raises(CheckpointError, match=r"memory_tokenizer\.json: not the tokenizer that"):
        Reader.from_pretrained(tmp_path)
    own.unlink()
    with pytest.raises(CheckpointError, match=r"no memory_tokenizer\.json, but the reader was saved with"):
        Reader.from_pretrained(tmp_path)


def test_a_reader_saved_in_its_place_leaves_no_second_tokenizer(tmp_path: Path) -> None:
    reader_with_both().save_pretrained(tmp_path)
    Reader.from_preset("tiny-fid").save_pretrained(tmp_path)
    assert not (tmp_path / "memory_tokenizer.json").exists()
    assert Reader.from_pretrained(tmp_path).tokenizer.passage_backend is not None


def test_a_tokenizer_needs_that_of_passages_and_no_other() -> None:
    with pytest.raises(CheckpointError, match="there is no tokenizer of passages"):
        Tokenizer(LONG, BOTH)
    with pytest.raises(CheckpointError, match="there is a tokenizer of passages"):
        Tokenizer(LONG, small(), SHORT)


def test_a_changed_reader_keeps_both() -> None:
    changed = _changed(reader_with_both(), {"passage_tokens": 7, "dropout": 0.0})
    [ids] = changed.tokenizer.passages([PASSAGE])
    assert (len(ids), ids[-1]) == (7, 5)


def test_a_reshaped_reader_keeps_both_while_it_has_a_use_for_them() -> None:
    reader = reader_with_both()
    shared, _ = reshape(reader, kv_heads=2)
    assert shared.tokenizer.passages([PASSAGE]) == reader.tokenizer.passages([PASSAGE])
    assert shared.config.memory_vocabulary_size == SHORT.get_vocab_size()
    own = small(encoder=of(T5, 3), decoder=of(T5, 2), vocabulary_size=SIZES["vocabulary_size"])
    plain, _ = reshape(reader, memory_encoder=random_reader(own))
    assert plain.config.memory_vocabulary_size is None
    assert plain.tokenizer.passages([PASSAGE])[0][-1] == BOTH.end_token


def test_a_teacher_reads_the_same_tokens_of_passages() -> None:
    student, teacher = reader_with_both(), reader_with_both()
    Teacher(teacher, student)
    teacher.tokenizer = Tokenizer(LONG, BOTH, vocabulary("xy"))
    with pytest.raises(ConfigError, match="its passages have another vocabulary"):
        Teacher(teacher, student)


def test_text_without_spans_needs_one_vocabulary() -> None:
    spec = TaskSpec(kind="span-corruption", files=["text.txt"])
    with pytest.raises(ConfigError, match="passages have a vocabulary of their own here"):
        SpanCorruptionTask(LocalDocuments([b"a b"], 0), reader_with_both().tokenizer, spec)


@torch.no_grad()
def test_a_passage_may_reach_the_last_position() -> None:
    """Positions begin at `passage_position`; the last token has the last one that the encoder knows."""
    config = small(encoder=of("bert"), positions=16, passage_position=6, passage_tokens=10, question_tokens=6)
    long = [5, 6, 7, 8, 9, 10, 11, 12, 13, 1]
    equals_its_definition(random_reader(config), [([3, 4, 5, 6, 7, 8], [long, long[:9]], [9, 1])])


@torch.no_grad()
def test_copying_begins_behind_the_token_that_was_written() -> None:
    """The last layer looks for the place whose token before is that one, and not for the token itself."""
    reader = random_reader(
        small(token_skip=True, tied_head=True, encoder=stack(width=32), decoder=stack(2, width=32))
    )
    start_copying(reader.decoder, torch.Generator().manual_seed(0))
    config, last = reader.config, [m for m in reader.decoder.modules() if isinstance(m, CrossAttention)][-1]
    token, before = (last.key.weight[:, config.encoder.width + place * 32 :][:, :32] for place in (0, 1))
    found = last.query.weight[: len(before)] @ before.T
    assert found.diagonal().mean() > 5 * (last.query.weight[: len(token)] @ token.T).abs().mean()
