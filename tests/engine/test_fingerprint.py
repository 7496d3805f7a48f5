import pytest
import torch

from fidkit import Reader
from fidkit.engine.fingerprint import memory_fingerprint
from fidkit.errors import CheckpointError
from fidkit.preset import named
from fidkit.tokens import Tokenizer


@pytest.fixture
def reader():
    return Reader.from_preset("tiny-lumen")


def test_equal_memory_encoders_have_equal_fingerprints(reader):
    assert memory_fingerprint(reader) == memory_fingerprint(Reader.from_preset("tiny-lumen"))
    assert memory_fingerprint(reader) != memory_fingerprint(Reader.from_preset("tiny-lumen", seed=1))


def test_training_the_rest_keeps_a_memory_valid(reader):
    before = memory_fingerprint(reader)
    with torch.no_grad():
        for name, parameter in reader.named_parameters():
            if not name.startswith("memory_encoder."):
                parameter.add_(1)
    assert memory_fingerprint(reader) == before


def test_every_weight_of_the_memory_encoder_counts(reader):
    before = memory_fingerprint(reader)
    for parameter in reader.memory_encoder.parameters():
        with torch.no_grad():
            old = parameter.view(-1)[-1].item()
            parameter.view(-1)[-1] = 3
        assert memory_fingerprint(reader) != before
        with torch.no_grad():
            parameter.view(-1)[-1] = old
    assert memory_fingerprint(reader) == before


@pytest.mark.parametrize(
    "change",
    [
        {"live_layers": 2},
        {"relative_max_distance": 64},
        {"passage_tokens": 100},
        {"passage_format": "{text}"},
    ],
)
def test_whatever_changes_a_memory_changes_its_fingerprint(reader, change):
    changed = named("tiny-lumen").replace(**change)
    other = Reader(changed, Tokenizer.bundled(changed))
    other.load_state_dict(reader.state_dict(), strict=False)
    assert memory_fingerprint(other) != memory_fingerprint(reader)


def test_without_a_tokenizer_there_is_none():
    with pytest.raises(CheckpointError, match="no tokenizer"):
        memory_fingerprint(Reader(named("tiny-lumen")))
