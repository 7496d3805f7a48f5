import torch

from fidkit.nn.initialise import initialise
from fidkit.reader import Reader
from oracles import random_reader, small, stack


def test_deviations() -> None:
    wide = stack(1, width=128, heads=4, head_width=16, feed_forward=256)
    reader = Reader(small(encoder=wide, decoder=wide, vocabulary_size=500, cross_kv_heads=2))
    found = {name: p.detach().std() for name, p in reader.named_parameters() if p.ndim == 2}
    expected = {
        "embedding.weight": 1.0,
        "head.linear.weight": 128**-0.5,
        "decoder.layers.0.self_attention.query.weight": (128 * 16) ** -0.5,
        "decoder.layers.0.cross_attention.key.weight": 128**-0.5,
        "decoder.layers.0.cross_attention.out.weight": 64**-0.5,
        "live_encoder.layers.0.feed_forward.gate.weight": 128**-0.5,
        "live_encoder.layers.0.feed_forward.out.weight": 256**-0.5,
    }
    for name, deviation in expected.items():
        assert abs(found[name] / deviation - 1) < 0.06, name


def test_a_seed_gives_the_same_weights() -> None:
    one, other = (Reader(small()) for _ in range(2))
    for reader in (one, other):
        initialise(reader, torch.Generator().manual_seed(3))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_the_three_encoders_start_as_parts_of_one() -> None:
    reader = random_reader(small(live_layers=1))
    memory, question = reader.memory_encoder.encoder, reader.question_encoder
    assert len(memory.layers) == len(question.layers) == 2
    assert all(torch.equal(a, b) for a, b in zip(memory.parameters(), question.parameters(), strict=True))
    assert torch.equal(reader.memory_encoder.embedding.weight, reader.embedding.weight)
    assert torch.equal(reader.live_encoder.relative_bias.weight, question.relative_bias.weight)
