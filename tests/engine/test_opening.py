from pathlib import Path

import pytest

from fidkit.checkpoint import files
from fidkit.engine.opening import made_ready
from fidkit.reader import Reader


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_hub_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision) -> None:
    """Also where a reader needs PyTorch after all."""
    Reader.from_preset("tiny-fid").save_pretrained(tmp_path)
    asked = []
    monkeypatch.setattr(files, "_fetch", lambda name: asked.append(name) or tmp_path)
    ready, memory = made_ready("somebody/tiny", None, "cpu", precision)
    assert asked == ["somebody/tiny"]
    assert (ready.computes, memory) == (precision, None)
