"""The study of quality: kept states, readers as their tables want them, and rows once."""

from pathlib import Path

import pytest
import torch
from proportions import split
from study.command import main
from study.runs import made
from study.states import RECORD, States
from study.variants import CONDITIONING, FIDO, GQA, LIGHT, LSA, MQ, START

from fidkit.bench.rows import read
from fidkit.context import Batch, collate
from fidkit.nn.encoder import EncoderLayers
from fidkit.preset import named
from fidkit.reader import Reader
from small_data import write_data

BATCH = collate([[5, 6, 7], [8, 9]], [[[10, 11, 12, 13]], [[14, 15], [16, 17, 18]]])


def tiny(seed: int = 0) -> Reader:
    """A reader whose encoder is left as it is, and whose decoder isn't."""
    reader = Reader(named("tiny-fid"))
    reader.reset_parameters(torch.Generator().manual_seed(seed))
    reader.live_encoder.requires_grad_(False)
    return reader.eval()


def rounded(reader: Reader, batch: Batch = BATCH) -> torch.Tensor:
    """What the encoder makes of a batch, to the bits of bfloat16."""
    return reader.read(batch).states_BMD.bfloat16().float()


def test_states_are_those_of_the_encoder_and_computed_once(tmp_path: Path) -> None:
    reader, states = tiny(), States(tmp_path)
    expected = rounded(reader)
    torch.testing.assert_close(reader.read(BATCH, states).states_BMD, expected, rtol=0, atol=0)
    assert states.computed == 3
    again = States(tmp_path)  # another run
    torch.testing.assert_close(reader.read(BATCH, again).states_BMD, expected, rtol=0, atol=0)
    assert again.computed == 0
    some = collate([[8, 9]], [[[16, 17, 18], [10, 11]]])  # one row that is there, and one that isn't
    torch.testing.assert_close(
        reader.read(some, again).states_BMD, rounded(reader, some), rtol=0.02, atol=0.02
    )
    assert again.computed == 1


def test_states_are_of_one_encoder(tmp_path: Path) -> None:
    states = States(tmp_path)
    for seed in range(1, 9):  # one after the other, so that they may stand at one place in memory
        reader = tiny(seed)
        torch.testing.assert_close(reader.read(BATCH, states).states_BMD, rounded(reader), rtol=0, atol=0)
        del reader
    assert states.computed == 24


def test_what_is_trained_is_not_kept(tmp_path: Path) -> None:
    reader, states = tiny().requires_grad_(True), States(tmp_path)
    context = reader.read(BATCH, states)
    torch.testing.assert_close(context.states_BMD, reader.read(BATCH).states_BMD, rtol=0, atol=0)
    assert context.states_BMD.requires_grad
    assert states.computed == 0


def test_states_outlive_a_process_that_was_killed_while_it_wrote(tmp_path: Path) -> None:
    reader = tiny()
    reader.read(BATCH, States(tmp_path))
    index = tmp_path / "index.bin"
    index.write_bytes(index.read_bytes()[: 2 * RECORD.size + 7])  # in the middle of the third
    again = States(tmp_path)
    torch.testing.assert_close(reader.read(BATCH, again).states_BMD, rounded(reader), rtol=0, atol=0)
    assert again.computed == 1
    assert States(tmp_path).computed == 0
    assert index.stat().st_size == 3 * RECORD.size


def test_readers_are_the_start_with_another_decoder() -> None:
    start, light = Reader.from_pretrained(START), made(LIGHT[6], 0)
    assert light.config.kept_vectors == 23
    for name, p in light.live_encoder.named_parameters():
        torch.testing.assert_close(p, start.live_encoder.get_parameter(name), rtol=0, atol=0)
    sparse, other = made(LSA[6], 0), made(LSA[6], 1)
    assert sparse.config.cross_layers == (False,) * 5 + (True,)
    name = "decoder.layers.5.cross_attention.key.weight"
    assert not torch.equal(sparse.get_parameter(name), other.get_parameter(name))
    assert made(MQ, 0).config.kv_heads == (1, 1)
    assert made(GQA, 0).config.kv_heads == (2, 2)
    large = made(FIDO, 0).config.decoder
    assert (large.layers, large.heads, large.feed_forward) == (12, 12, 2048)


def test_lumen_s_parts_see_each_other_as_they_should() -> None:
    seen = {variant.name: made(variant, 0) for variant in CONDITIONING}
    blind = seen["lumen-1-3-question-sees-passage"]
    assert (blind.config.live, blind.config.live_attention) == (2, "question-sees-passage")
    frozen = seen["lumen-1-3-question-frozen"]
    assert not any(p.requires_grad for p in frozen.question_encoder.parameters())
    torch.testing.assert_close(
        frozen.state_dict(), split(START, frozen.config.alpha).state_dict(), rtol=0, atol=0
    )


@pytest.mark.slow
def test_a_table_has_a_row_for_each_reader_and_seed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, corpus = write_data(tmp_path / "data")
    typed = ["table-4", "--data", str(data), "--corpus", str(corpus), "--states", str(tmp_path / "states")]
    typed += ["--runs", str(tmp_path / "runs"), "--to", str(tmp_path / "study.jsonl"), "--limit", "3"]
    typed += ["--seeds", "0", "1", "--steps", "4", "--only", "light-6", "mq"]
    typed += ["--set", "stages.0.questions=2", "stages.0.mix={ extractive = 1.0 }", "tasks.other.where={}"]
    main(typed)
    found = list(read(tmp_path / "study.jsonl"))
    assert [(row["variant"], row["seed"]) for row in found] == [
        ("light-6", 0), ("mq", 0), ("light-6", 1), ("mq", 1)
    ]  # fmt: skip
    for row in found:
        assert row["steps"] == 4
        assert [row["on_the_way"][share]["step"] for share in ("1/4", "1/2", "1")] == [1, 2, 4]
        assert row["squad"]["n"] == row["newwiki"]["n"] == 3
        assert row["decoder_ms"]["20"] > row["decoder_ms"]["1"] > 0
    assert found[0]["states_seconds"] > 0
    assert set(found[1]["beams"]) == {"4", "16"}
    assert not any((tmp_path / "runs").iterdir())
    monkeypatch.setattr(EncoderLayers, "__call__", None)  # nothing is left to do
    main(typed)
    assert list(read(tmp_path / "study.jsonl")) == found
