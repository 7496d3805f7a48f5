"""The encoder that comes along is known by what decides its vectors, wherever that lies."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from fidkit import assets
from fidkit.checkpoint.shared import sha256
from fidkit.engine.meaning import minilm


@pytest.mark.parametrize(("tensor", "same"), [("head.bias.weight", True), ("embedding.weight", False)])
def test_vectors_stay_what_they_are_where_a_reader_s_other_weights_change(
    tensor: str, same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = minilm().fingerprint
    for name in ("pocket", "minilm"):
        shutil.copytree(assets.reader(name), tmp_path / name)
    weights, shared = tmp_path / "pocket" / "model.safetensors", tmp_path / "minilm" / "shared.json"
    with safe_open(weights, framework="np") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    tensors[tensor] = tensors[tensor] + tensors[tensor].dtype.type(1)
    save_file(tensors, weights, metadata)
    shared.write_text(json.dumps(json.loads(shared.read_text()) | {"sha256": sha256(weights)}))
    monkeypatch.setattr(assets, "reader", lambda name: tmp_path / name)
    assert (minilm.__wrapped__().fingerprint == known) is same
