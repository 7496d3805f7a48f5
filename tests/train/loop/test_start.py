"""The reader that a run starts from, and what is said before it starts."""

from pathlib import Path

import pytest
import torch

from fidkit.train.loop import start
from fidkit.train.loop.start import make_reader
from fidkit.train.loop.training import Trainer
from train.toy import world

CPU, GPU = torch.device("cpu"), torch.device("cuda")

ENCODER = "reader.changes.encoder={ layers = 4, width = 32, heads = 4, head_width = 8, feed_forward = 64 }"
DECODER = "reader.changes.decoder={ layers = 2, width = 32, heads = 8, head_width = 8, feed_forward = 64 }"


@pytest.mark.parametrize(
    ("preset", "live", "kv_heads"), [("tiny-fid", 4, (8, 8)), ("tiny-lumen-fido", 1, (1, 1))]
)
def test_what_was_all_of_a_stack_stays_all_of_it(
    preset: str, live: int, kv_heads: tuple[int, int], tmp_path: Path
) -> None:
    apart = ["reader.changes.shared_embedding=false"]
    config = make_reader(world(tmp_path, f"reader.preset={preset}", ENCODER, DECODER, *apart)).config
    assert config.live == live
    assert (config.self_kv_heads, config.cross_kv_heads) == kv_heads


def test_what_is_asked_for_is_taken(tmp_path: Path) -> None:
    asked = ["reader.changes.live_layers=2", "reader.changes.cross_kv_heads=2"]
    config = make_reader(world(tmp_path, ENCODER, DECODER, *asked)).config
    assert (config.live, config.self_kv_heads, config.cross_kv_heads) == (2, 8, 2)


def test_a_cpu_without_products_in_bfloat16_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(start, "has_bfloat16_products", lambda: False)
    assert start.slow_precision("bfloat16", CPU)
    assert start.slow_precision("float32", CPU) is None
    assert start.slow_precision("bfloat16", GPU) is None
    with caplog.at_level("INFO"):
        Trainer(world(tmp_path / "slow", "precision=bfloat16"))
    assert any("--set precision=float32" in record.message for record in caplog.records)


def test_other_cpus_are_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "has_bfloat16_products", lambda: True)
    assert start.slow_precision("bfloat16", CPU) is None
