"""What is BERT's own: positions, types, words that can be frozen or shared; and the knobs of all that."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fidkit.config import ReaderConfig
from fidkit.engine.fingerprint import memory_fingerprint
from fidkit.errors import ConfigError
from fidkit.nn.rows import Rows
from fidkit.reader import Reader
from fidkit.tokens import Tokenizer
from fidkit.train.optimisers.make import make_optimiser
from fidkit.train.recipe import OptimiserSpec
from fidkit.types import Passage
from oracles import batch_of, random_reader, small, stack

BERT = small(encoder=stack().replace(family="bert"))
EXAMPLES = [([3, 4], [[5, 6, 7], [8]], [9, 1]), ([10, 11, 12], [[13, 14]], [15, 16, 1])]
ONE = torch.tensor([4])


@torch.no_grad()
def embedded(reader: Reader, side: str) -> torch.Tensor:
    return reader.embedding.of_rows(torch.tensor([5, 6, 5, 6]), Rows(ONE), side)


def changed(reader: Reader, change: Callable[[Reader], torch.Tensor]) -> set[str]:
    """The sides whose vectors are others after a change of some weights."""
    before = {side: embedded(reader, side) for side in ("question", "passage")}
    with torch.no_grad():
        change(reader).add_(1.0 + torch.arange(16.0))
    return {side for side, x in before.items() if not torch.equal(embedded(reader, side), x)}


def test_passages_have_positions_and_a_type_of_their_own() -> None:
    first = BERT.passage_position
    assert changed(random_reader(BERT), lambda r: r.embedding.positions.weight[0]) == {"question"}
    assert changed(random_reader(BERT), lambda r: r.embedding.positions.weight[first - 1]) == set()
    assert changed(random_reader(BERT), lambda r: r.embedding.positions.weight[first]) == {"passage"}
    assert changed(random_reader(BERT), lambda r: r.embedding.positions.weight[first + 3]) == {"passage"}
    assert changed(random_reader(BERT), lambda r: r.embedding.positions.weight[first + 4]) == set()
    assert changed(random_reader(BERT), lambda r: r.embedding.types.weight[0]) == {"question"}
    assert changed(random_reader(BERT), lambda r: r.embedding.types.weight[1]) == {"passage"}
    x = embedded(random_reader(BERT), "question")
    assert not torch.allclose(x[0], x[2])  # the same word in another place


@torch.no_grad()
def test_a_passages_memory_is_valid_for_any_question() -> None:
    reader = random_reader(BERT.replace(live_layers=1))
    passage = [5, 6, 7, 8]
    memory = reader.encode_passages(torch.tensor([passage]), ONE)
    for question in ([3], [9] * 7, list(range(2, 30))):
        batch = batch_of([(question, [passage], [1])])
        fresh = reader.read(batch)
        assert torch.equal(reader.read_memory(batch, memory).states_BMD, fresh.states_BMD)


def test_where_passages_begin_is_in_the_memorys_fingerprint() -> None:
    def fingerprint(**knobs) -> str:
        config = BERT.replace(live_layers=1, vocabulary_size=16384, **knobs)
        reader = Reader(config, Tokenizer.bundled(config))
        reader.reset_parameters(torch.Generator().manual_seed(0))
        return memory_fingerprint(reader)

    assert fingerprint() == fingerprint(question_tokens=40)
    assert fingerprint() != fingerprint(passage_position=50)


# Frozen words


@pytest.mark.parametrize(
    "knobs", [{}, {"live_layers": 1}, {"standardised_embedding": True, "tied_head": True}]
)
def test_frozen_words_are_not_trained_and_nothing_else_is_spared(knobs: dict) -> None:
    reader = random_reader(BERT.replace(frozen=("memory", "embedding"), **knobs)).train()
    optimiser = make_optimiser(OptimiserSpec(), reader, torch.nn.Module())
    known = {id(p) for group in optimiser.param_groups for p in group["params"]}
    before = {name: p.detach().clone() for name, p in reader.named_parameters()}
    reader(batch_of(EXAMPLES)).loss.backward()
    optimiser.step()
    for name, p in reader.named_parameters():
        trained = name != "embedding.weight" and not name.startswith("memory_encoder.")
        assert (id(p) in known, p.requires_grad) == (trained, trained), name
        assert torch.equal(p, before[name]) != trained, name


def test_positions_and_types_do_not_decay() -> None:
    reader = random_reader(BERT)
    optimiser = make_optimiser(OptimiserSpec(weight_decay=0.1), reader, torch.nn.Module())
    spared = {id(p) for g in optimiser.param_groups if not g["weight_decay"] for p in g["params"]}
    own = {name for name, p in reader.embedding.named_parameters() if id(p) in spared}
    assert own == {"positions.weight", "types.weight", "norm.weight", "norm.bias"}
    layer = dict(reader.live_encoder.layers[0].named_parameters())
    assert {name for name, p in layer.items() if id(p) not in spared} == {
        f"{part}.weight"
        for part in (
            *(f"attention.{m}" for m in ("query", "key", "value", "out")),
            "feed_forward.inner",
            "feed_forward.out",
        )
    }


def test_a_decoder_shares_words_and_nothing_else() -> None:
    reader = random_reader(BERT)
    names = {name for name, _ in reader.named_parameters() if "embedding" in name}
    assert names == {
        "embedding.weight",
        "embedding.positions.weight",
        "embedding.types.weight",
        "embedding.norm.weight",
        "embedding.norm.bias",
    }
    ids = torch.tensor([[5, 6]])
    found = reader.decoder.embedding.of_targets(ids, torch.arange(2))
    assert torch.equal(found[0], reader.embedding.weight[ids[0]])


# Knobs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question_tokens": 49}, "question_tokens is 49, but passages begin at passage_position 48"),
        ({"positions": 255}, "208 passage_tokens from passage_position 48 on need 256 positions, but .* 255"),
        ({"start_token": 37}, "start_token is 37, but vocabulary_size is 37"),
        ({"question_end_token": 40}, "question_end_token is 40, but vocabulary_size is 37"),
        ({"title_end_token": 3}, "passage_format is 'title: .*, but title_end_token stands between"),
        (
            {"decoder": stack(2).replace(family="bert"), "encoder": stack().replace(family="t5")},
            "embeddings of one kind",
        ),
    ],
)
def test_what_cannot_be(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BERT.replace(**change)


def test_t5_has_no_use_for_positions() -> None:
    assert small(positions=2, passage_position=0).positions == 2


def test_control_tokens_are_where_the_knobs_say(tmp_path: Path) -> None:
    knobs = {"start_token": 5, "question_end_token": 6, "title_end_token": 7, "end_token": 8}
    config = small(
        vocabulary_size=16384,
        question_format="{question}",
        passage_format="{title}{text}",
        question_tokens=6,
        passage_tokens=9,
        **knobs,
    )
    tokenizer = Tokenizer.bundled(config)
    question, title, text = (tokenizer.encode(x) for x in ("who wrote it?", "A title", "the text of it all"))
    asked = tokenizer.question("who wrote it?")
    assert asked.ids == [5, *question[:4], 6]
    assert asked.dropped == max(0, len(question) - 4)
    [found] = tokenizer.passages([Passage("1", "A title", "the text of it all")])
    assert found == [*[*title, 7, *text][:8], 8]
    assert tokenizer.passages([Passage("1", "", "")]) == [[7, 8]]
    plain: ReaderConfig = config.replace(title_end_token=None)
    assert Tokenizer.bundled(plain).fingerprint != tokenizer.fingerprint
    config.save(tmp_path / "config.json")
    assert ReaderConfig.load(tmp_path / "config.json") == config
