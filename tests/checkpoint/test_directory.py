import json
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fidkit import checkpoint
from fidkit.errors import CheckpointError, ConfigError, FidkitError, UsageError
from fidkit.preset import named
from fidkit.reader import Reader
from fidkit.tokens import PASSAGE_FILE, Tokenizer
from oracles import batch_of, random_reader, small

EXAMPLES = [([3, 4], [[5, 6, 7], [8]], [9, 1]), ([10, 11, 12], [[13, 14]], [15, 16, 1])]
NAMES = ["tiny-fid", "tiny-lumen-fido", "tiny-memoryfid", "tiny-lumen-deep", "tiny-glimmer"]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A reader with the bundled vocabulary."""
    directory = tmp_path / "reader"
    Reader.from_preset("tiny-fid").save_pretrained(directory)
    return directory


def weights(reader: Reader) -> dict[str, torch.Tensor]:
    return dict(reader.named_parameters())


def refused(directory: Path) -> str:
    with pytest.raises(FidkitError) as caught:
        Reader.from_pretrained(directory)
    message = str(caught.value)
    assert "\n" not in message
    assert directory.name in message
    return message


def rewrite(directory: Path, change, metadata: dict[str, str] | None = None) -> None:
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors", metadata=metadata)


def reconfigure(directory: Path, **changes) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# What is saved is loaded


@pytest.mark.parametrize("name", NAMES)
def test_save_and_load(name: str, tmp_path: Path) -> None:
    reader = Reader.from_preset(name, seed=3)
    reader.save_pretrained(tmp_path)
    again = Reader.from_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert again.config == reader.config
    assert not again.training
    assert weights(again).keys() == weights(reader).keys()
    assert all(torch.equal(p, weights(again)[n]) for n, p in weights(reader).items())
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in reader.parameters()]
    assert torch.equal(again(batch_of(EXAMPLES)).logits, reader(batch_of(EXAMPLES)).logits)
    assert again.fingerprint() == reader.fingerprint()


# Of weights that a rule makes, by the first version that had these presets.
FIRST_FINGERPRINTS = {"tiny-fid": "b15fb5be5464385d", "tiny-lumen": "d290a3728f6fa968"}


@pytest.mark.parametrize("name", FIRST_FINGERPRINTS)
def test_fingerprints_stay_when_the_space_grows(name: str) -> None:
    reader = Reader(named(name))
    with torch.no_grad():
        for number, p in enumerate(reader.parameters()):
            p.fill_(number)
    assert reader.fingerprint()[:16] == FIRST_FINGERPRINTS[name]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_ties_survive(tied: bool, shared: bool, tmp_path: Path) -> None:
    reader = random_reader(small(tied_head=tied, shared_embedding=shared))
    reader.save_pretrained(tmp_path)
    again = Reader.from_pretrained(tmp_path)
    assert (again.decoder.embedding.weight is again.embedding.weight) == shared
    assert again.memory_encoder.embedding.weight is again.embedding.weight
    if tied:
        assert again.head.embedding.weight is again.decoder.embedding.weight
    assert torch.equal(again(batch_of(EXAMPLES)).logits, reader(batch_of(EXAMPLES)).logits)


def test_bfloat16_weights_are_computed_with_as_float32(tmp_path: Path) -> None:
    reader = random_reader(small())
    reader.save_pretrained(tmp_path, dtype="bfloat16")
    stored = load_file(tmp_path / "model.safetensors")
    assert {t.dtype for t in stored.values()} == {torch.bfloat16}
    again = weights(Reader.from_pretrained(tmp_path))
    assert all(torch.equal(p, weights(reader)[n].bfloat16().float()) for n, p in again.items())


def test_a_reader_without_a_tokenizer(tmp_path: Path) -> None:
    random_reader(small()).save_pretrained(tmp_path)
    assert Reader.from_pretrained(tmp_path).tokenizer is None


def test_saving_again_replaces(saved: Path) -> None:
    Reader.from_preset("tiny-lumen", seed=1).save_pretrained(saved)
    assert Reader.from_pretrained(saved).config == named("tiny-lumen")


def test_fingerprints_differ_by_config_weights_and_tokenizer() -> None:
    reader = Reader.from_preset("tiny-fid")
    prints = {reader.fingerprint(), Reader.from_preset("tiny-fid", 1).fingerprint()}
    prints.add(Reader.from_preset("tiny-fid-light").fingerprint())
    reader.tokenizer = None
    prints.add(reader.fingerprint())
    assert len(prints) == 4


def test_assigning_in_place_keeps_the_parameters() -> None:
    reader, other = random_reader(small(), 1), random_reader(small(), 2)
    before = {n: id(p) for n, p in reader.named_parameters()}
    checkpoint.assign_in_place(reader, weights(other), "there")
    assert {n: id(p) for n, p in reader.named_parameters()} == before
    assert all(torch.equal(p, weights(other)[n]) for n, p in weights(reader).items())


# Weights stay in the file


@pytest.mark.parametrize(
    ("stored", "wanted", "kept", "expected"),
    [
        ("bfloat16", None, True, torch.bfloat16),
        ("bfloat16", "bfloat16", True, torch.bfloat16),
        ("bfloat16", "float32", False, torch.float32),
        ("float32", None, True, torch.float32),
        ("float32", "bfloat16", False, torch.bfloat16),
        ("float16", None, False, torch.float32),
    ],
)
def test_types_of_weights(
    stored: str, wanted: str | None, kept: bool, expected: torch.dtype, tmp_path: Path
) -> None:
    reader = random_reader(small())
    reader.save_pretrained(tmp_path, dtype=stored)
    again = Reader.from_pretrained(tmp_path, dtype=wanted)
    assert {p.dtype for p in again.parameters()} == {expected}
    whole = weights(Reader.from_pretrained(tmp_path))
    assert all(torch.equal(p, whole[n].to(expected)) for n, p in weights(again).items())
    assert _mapped(again, tmp_path) == kept


def _mapped(reader: Reader, directory: Path) -> bool:
    """Whether all weights are where the file is mapped."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("no list of mapped files on this system")
    lines = [
        line.split()
        for line in maps.read_text().splitlines()
        if line.endswith(f"{directory.name}/model.safetensors")
    ]
    ranges = [[int(end, 16) for end in line[0].split("-")] for line in lines]
    return all(any(low <= p.data_ptr() < high for low, high in ranges) for p in reader.parameters())


def test_weights_are_converted_one_after_the_other(tmp_path: Path) -> None:
    reader = random_reader(small())
    stored = {name: p.detach().bfloat16() for name, p in reader.named_parameters()}
    given: list[weakref.ref] = []

    def alone(name: str) -> torch.Tensor:
        assert all(ref() is None for ref in given)  # the one before is gone
        tensor = stored[name].clone()
        given.append(weakref.ref(tensor))
        return tensor

    checkpoint.assign(reader, stored, "there", alone=alone)
    assert len(given) == len(stored)
    assert all(torch.equal(p, stored[name].float()) for name, p in reader.named_parameters())


def test_weights_of_another_file_are_not_mixed_in(saved: Path) -> None:
    found = checkpoint.read(saved)
    name = "decoder.norm.weight"
    assert torch.equal(found.alone(name), found.tensors[name])
    assert found.alone(name).data_ptr() != found.tensors[name].data_ptr()
    other = Reader.from_preset("tiny-fid", seed=5)
    with torch.no_grad():
        other.decoder.norm.weight.fill_(7)
    before = found.tensors[name].clone()
    for end in (other.save_pretrained, shutil.rmtree):
        end(saved)
        assert torch.equal(found.alone(name), before)


def test_a_type_for_each_weight_is_float32(saved: Path) -> None:
    rewrite(saved, lambda t: t.update({"decoder.norm.weight": t["decoder.norm.weight"].bfloat16()}))
    assert {p.dtype for p in Reader.from_pretrained(saved, dtype=None).parameters()} == {torch.float32}


@pytest.mark.parametrize("end", ["saved over", "deleted"])
def test_a_reader_outlives_its_files(end: str, saved: Path) -> None:
    reader = Reader.from_pretrained(saved)
    before = {n: p.detach().clone() for n, p in weights(reader).items()}
    other = Reader.from_preset("tiny-fid", seed=5)
    (other.save_pretrained if end == "saved over" else shutil.rmtree)(saved)
    assert all(torch.equal(p, before[n]) for n, p in weights(reader).items())
    reader.save_pretrained(saved)  # over what took its place
    assert Reader.from_pretrained(saved).fingerprint() == reader.fingerprint()


def test_a_reader_saved_over_itself(saved: Path) -> None:
    reader = Reader.from_pretrained(saved)
    before = reader.fingerprint()
    with torch.no_grad():
        reader.decoder.norm.weight.add_(1)
    assert reader.fingerprint() != before
    reader.save_pretrained(saved)
    reader.save_pretrained(saved)
    assert Reader.from_pretrained(saved).fingerprint() == reader.fingerprint()


def test_changing_a_reader_leaves_its_file_alone(saved: Path) -> None:
    reader = Reader.from_pretrained(saved)
    assert _mapped(reader, saved)
    before = (saved / "model.safetensors").read_bytes()
    optimiser = torch.optim.SGD(reader.parameters(), lr=1.0)
    reader.train()(batch_of(EXAMPLES)).loss.backward()
    optimiser.step()
    assert reader.fingerprint() != Reader.from_pretrained(saved).fingerprint()
    assert (saved / "model.safetensors").read_bytes() == before


def test_loading_needs_no_compiler() -> None:
    """Its import takes a second of every command."""
    code = (
        "import sys; from fidkit import Reader; Reader.from_pretrained('pocket'); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["int4", "bool", "nonsense", "Tensor", ""])
def test_types_that_weights_cant_be_saved_as(name: str, saved: Path) -> None:
    before = (saved / "model.safetensors").read_bytes()
    reader = Reader.from_preset("tiny-fid", seed=1)
    for refuse in (
        lambda: reader.save_pretrained(saved, dtype=name),
        lambda: Reader.from_pretrained(saved, name),
    ):
        with pytest.raises(UsageError, match="expected one of float32, bfloat16, float16"):
            refuse()
    assert (saved / "model.safetensors").read_bytes() == before


def test_weights_too_large_for_their_type(saved: Path) -> None:
    reader = Reader.from_pretrained(saved)
    with torch.no_grad():
        reader.decoder.norm.weight[0] = 1e5
    with pytest.raises(UsageError, match=r"decoder\.norm\.weight has weights too large for float16"):
        reader.save_pretrained(saved, dtype="float16")


# What is refused


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.float8_e4m3fn], ids=str)
def test_weights_that_are_no_numbers_by_themselves(saved: Path, dtype: torch.dtype) -> None:
    rewrite(saved, lambda t: t.update({n: w.to(dtype) for n, w in t.items()}))
    said = str(dtype).removeprefix("torch.")
    assert f"is stored as {said}; expected float32, bfloat16, float16, float64; quantised" in refused(saved)


def test_tensors_missing_superfluous_and_of_another_shape(saved: Path) -> None:
    def spoil(tensors) -> None:
        del tensors["decoder.norm.weight"]
        tensors["decoder.extra.weight"] = torch.zeros(2)
        tensors["live_encoder.norm.weight"] = torch.zeros(7)

    rewrite(saved, spoil)
    message = refused(saved)
    assert "missing decoder.norm.weight" in message
    assert "unexpected decoder.extra.weight" in message
    assert "live_encoder.norm.weight is [7], expected [32]" in message


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(saved: Path, value: float, dtype: torch.dtype) -> None:
    def spoil(tensors) -> None:
        tensors["decoder.norm.weight"][3] = value
        tensors["decoder.norm.weight"] = tensors["decoder.norm.weight"].to(dtype)

    rewrite(saved, spoil)
    assert "not all weights are finite numbers: decoder.norm.weight; take an earlier" in refused(saved)


def test_a_long_list_is_cut(saved: Path) -> None:
    count = len(weights(Reader.from_preset("tiny-fid")))
    rewrite(saved, dict.clear)
    assert f"and {count - 5} more" in refused(saved)


@pytest.mark.parametrize("kept", [0, 5, 1000, -1])
def test_truncated_weights(saved: Path, kept: int) -> None:
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert "expected a safetensors file" in refused(saved)


def test_missing_weights(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    assert "expected a safetensors file" in refused(saved)


def test_another_tokenizer(saved: Path) -> None:
    record = json.loads((saved / "tokenizer.json").read_text())
    pieces = record["model"]["vocab"]
    pieces[500], pieces[501] = pieces[501], pieces[500]  # as many tokens, with other numbers
    (saved / "tokenizer.json").write_text(json.dumps(record))
    assert "not the tokenizer that model.safetensors was saved with" in refused(saved)


def test_a_lost_tokenizer(saved: Path) -> None:
    (saved / "tokenizer.json").unlink()
    assert "no tokenizer.json, but the reader was saved with one" in refused(saved)


def test_the_fingerprint_is_of_the_file(saved: Path) -> None:
    with safe_open(saved / "model.safetensors", framework="pt") as file:
        assert len(file.metadata()[checkpoint.TOKENIZER_SHA256]) == 64
    # A checkpoint that doesn't say is taken as it is.
    rewrite(saved, lambda tensors: None)
    assert Reader.from_pretrained(saved).tokenizer is not None


def test_a_larger_vocabulary_than_the_embedding(saved: Path, tmp_path: Path) -> None:
    config = small(vocabulary_size=100)
    random_reader(config).save_pretrained(tmp_path / "small")
    Tokenizer.bundled(small(vocabulary_size=16384)).save(tmp_path / "small" / "tokenizer.json")
    assert "16384 tokens, but the reader has 100 embeddings" in refused(tmp_path / "small")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "unknown key 'colour' (known: encoder, decoder"),
        ({"cross_attention_every": 4}, "the decoder has 3 layers"),
        ({"self_kv_heads": 3}, "must divide the decoder's 4 heads"),
        ({"live_layers": 4}, "the encoder has 3 layers"),
        ({"dropout": "much"}, "dropout: "),
    ],
)
def test_impossible_configurations(saved: Path, change: dict, message: str) -> None:
    reconfigure(saved, **change)
    assert message in refused(saved)


def test_a_newer_format(saved: Path) -> None:
    reconfigure(saved, format_version=2)
    assert "format_version is 2, this fidkit reads up to 1; upgrade fidkit" in refused(saved)


def test_a_config_of_another_reader(saved: Path) -> None:
    named("tiny-fido").save(saved / "config.json")
    assert "does not fit its config.json" in refused(saved)


def test_a_foreign_checkpoint_says_how_to_convert_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5", "d_model": 512}))
    with pytest.raises(
        ConfigError, match=r"a Hugging Face checkpoint \(t5\).*`fidkit convert .* NEW_DIRECTORY`"
    ):
        Reader.from_pretrained(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json in it"):
        Reader.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="not a directory, not one of the bundled readers"):
        Reader.from_pretrained("nobody/nothing-at-all")
    with pytest.raises(CheckpointError, match=r"; did you mean 'pocket-fido'\?$"):
        Reader.from_pretrained("poket-fido")


def test_a_vocabulary_of_passages_goes_with_the_reader_that_had_one(saved: Path) -> None:
    (saved / PASSAGE_FILE).write_text("{}")
    Reader.from_preset("tiny-fid").save_pretrained(saved)
    assert not (saved / PASSAGE_FILE).exists()
    Reader.from_pretrained(saved)
