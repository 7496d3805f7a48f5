"""Memory of training: against the tensors that autograd keeps of the plain reader."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from cost.points import batch_of, configs, few, workloads
from fidkit.config import ReaderConfig, StackConfig
from fidkit.cost import (
    Workload,
    parameters,
    training_activations,
    training_state_bytes,
)
from fidkit.cost.training import FLOAT_BYTES, LOGIT_BYTES
from fidkit.nn.encoder import EncoderLayers, Run
from fidkit.nn.rows import Rows
from fidkit.preset import named
from fidkit.reader import Reader

ENCODER = StackConfig(layers=4, width=64, heads=4, head_width=16, feed_forward=160)
DECODER = StackConfig(layers=3, width=96, heads=4, head_width=24, feed_forward=128)
READER = ReaderConfig(
    encoder=ENCODER, decoder=DECODER, vocabulary_size=500, shared_embedding=False, dropout=0.0
)
WORKLOAD = Workload(
    questions=2, passages=4, passage_tokens=40, question_tokens=8, output_tokens=12, dtype="float32"
)
# The estimate leaves out indices, relative biases, and a number a token that every norm keeps.
WITHIN = 0.05
READERS = {
    "fid": READER,
    "t5": READER.replace(block="t5"),
    "bert": READER.replace(encoder=ENCODER.replace(family="bert"), live_layers=3),
    "mpnet": READER.replace(encoder=ENCODER.replace(family="mpnet"), live_layers=3),
    "umt5": READER.replace(block="umt5", live_layers=3),
    "frozen words": READER.replace(frozen=("embedding",)),
    "fido": READER.replace(cross_attention_every=3, self_kv_heads=1, cross_kv_heads=1),
    "light": READER.replace(kept_vectors=6),
    "lumen": READER.replace(live_layers=1),
    "memory": READER.replace(live_layers=0),
    "wide memory": READER.replace(live_layers=1, memory_encoder=DECODER.model_dump()),
    "trained memory": READER.replace(live_layers=1, frozen=()),
    "frozen question": READER.replace(live_layers=1, frozen=("memory", "question")),
    "glimmer": READER.replace(live_layers=3, rerank={"after": 2, "keep": 2}),
}


class Kept:
    """Bytes of tensors that autograd keeps, parameters apart; a storage counts once."""

    def __init__(self, reader: Reader) -> None:
        self.parameters = {p.untyped_storage().data_ptr() for p in reader.parameters()}
        # Storages are held, so that none is counted under the address of another.
        self.storages: dict[int, torch.UntypedStorage] = {}

    def of(self, run: Callable[[], object]) -> int:
        """What a run keeps that none before it has kept."""
        before = self.bytes
        with saved_tensors_hooks(self._pack, lambda tensor: tensor):
            self.result = run()
        return self.bytes - before

    @property
    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self.storages.values())

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.parameters:
            self.storages[storage.data_ptr()] = storage
        return tensor


def measured(
    reader_config: ReaderConfig, workload: Workload, run: Run = EncoderLayers.__call__
) -> tuple[int, int]:
    """Of reading, and of the loss; without the copies of weights that autocast makes."""
    torch.manual_seed(0)
    reader, batch = Reader(reader_config).train(), batch_of(workload, labels=True)
    kept, halved = Kept(reader), workload.dtype == "bfloat16"
    with torch.autocast("cpu", torch.bfloat16, enabled=halved):
        encoder = kept.of(lambda: reader.read(batch, run))
        context = kept.result
        decoder = kept.of(lambda: reader.answer_loss(batch.labels, context))
    encoders = [reader.question_encoder, reader.live_encoder, reader.memory_encoder]
    trained = [part for part in encoders if part_is_trained(part)], [reader.decoder, reader.head]
    of_encoder, of_decoder = (2 * halved * sum(map(matrix_parameters, modules)) for modules in trained)
    return encoder - of_encoder, decoder - of_decoder


def part_is_trained(part: nn.Module) -> bool:
    return any(p.requires_grad for p in part.parameters())


def matrix_parameters(module: nn.Module) -> int:
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear))


@pytest.mark.parametrize(
    ("dtype", "dropout"),
    [
        ("float32", 0.0),
        ("bfloat16", 0.1),
        pytest.param("float32", 0.1, marks=pytest.mark.slow),
        pytest.param("bfloat16", 0.0, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", READERS)
def test_activations_are_what_autograd_keeps(name: str, dtype: str, dropout: float) -> None:
    reader, workload = READERS[name].replace(dropout=dropout), WORKLOAD.replace(dtype=dtype)
    expected = training_activations(reader, workload)
    encoder, decoder = measured(reader, workload)
    # Of three copies of the logits, the forward pass leaves one: the log-softmax.
    decoder -= expected.logits * FLOAT_BYTES // LOGIT_BYTES
    assert (1 - WITHIN) * encoder <= expected.encoder <= encoder
    assert (1 - WITHIN) * decoder <= expected.decoder <= decoder


def checkpointed(layers: EncoderLayers, x_XD: torch.Tensor, rows: Rows, norm=None) -> torch.Tensor:
    """The same layers; each keeps its input alone."""
    if not layers.layers or not x_XD.requires_grad:  # frozen layers keep nothing
        return layers(x_XD, rows, norm)
    bias, x = layers.bias(rows.longest), layers.dropout(x_XD)
    for layer in layers.layers:
        x = checkpoint(lambda x, layer=layer: layer(x, rows, bias), x, use_reentrant=True)
    return x if norm is None else norm(x)


@pytest.mark.parametrize("live", [2, 4])
def test_checkpointed_layers_keep_their_inputs_and_one_layer_is_computed_again(live: int) -> None:
    reader = READER.replace(live_layers=live)
    kept, _ = measured(reader, WORKLOAD, checkpointed)
    # Of live layers, which are the larger ones.
    one_layer = measured(reader, WORKLOAD)[0] - measured(with_fewer_live_layers(reader), WORKLOAD)[0]
    expected = training_activations(reader, WORKLOAD, checkpointing=True).encoder
    assert expected == pytest.approx(kept + one_layer, rel=WITHIN)


def with_fewer_live_layers(reader: ReaderConfig) -> ReaderConfig:
    stack = {**reader.encoder.model_dump(), "layers": reader.encoder.layers - 1}
    return reader.replace(encoder=stack, live_layers=reader.live - 1)


@few
@given(configs(), workloads())
def test_checkpointing_never_needs_more_than_a_layer_s_inputs_on_top(
    point: ReaderConfig, workload: Workload
) -> None:
    kept, again = (training_activations(point, workload, checkpointing=c) for c in (False, True))
    assert again.logits == kept.logits
    if point.live > 1 and not point.memory_layers and not point.rerank:
        assert again.encoder < kept.encoder
    if point.decoder.layers > 1:
        assert again.decoder < kept.decoder


@few
@given(configs(), workloads())
def test_activations_grow_with_the_batch(point: ReaderConfig, workload: Workload) -> None:
    one = training_activations(point, workload.replace(questions=1)).total
    assert training_activations(point, workload.replace(questions=3)).total == 3 * one


def test_training_keeps_four_numbers_a_parameter() -> None:
    assert training_state_bytes(named("fid-base")) == 16 * parameters(named("fid-base"))
    lumen = named("lumen-base")
    assert training_state_bytes(lumen) < 16 * parameters(lumen)
    assert training_state_bytes(lumen.replace(frozen=())) == 16 * parameters(lumen)
