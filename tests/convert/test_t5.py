import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fidkit.config import StackConfig
from fidkit.convert import export_t5, import_t5, load
from fidkit.convert.t5 import UNUSED
from fidkit.errors import CheckpointError
from fidkit.reader import Reader
from fidkit.types import Passage
from oracles import batch_of, random_reader, small, stack

EXAMPLES = [([3, 4], [[5, 6, 7], [8]], [9, 1]), ([10, 11, 12], [[13, 14]], [15, 16, 1])]
# T5's numbers of buckets, since they stand in its config too.
V1_0 = small(block="t5", tied_head=True, relative_buckets=32, relative_max_distance=128)
V1_1 = small(relative_buckets=32, relative_max_distance=128)
VERSIONS = pytest.mark.parametrize("config", [V1_0, V1_1, small()], ids=["v1.0", "v1.1", "v1.1, 8 buckets"])


@pytest.fixture
def t5(tmp_path: Path) -> Path:
    """A T5 v1.1 checkpoint."""
    return exported(random_reader(V1_1), tmp_path / "t5")


@pytest.fixture
def tied_t5(tmp_path: Path) -> Path:
    """A T5 v1.0 checkpoint."""
    return exported(random_reader(V1_0), tmp_path / "tied-t5")


def exported(reader: Reader, directory: Path) -> Path:
    export_t5(reader, directory)
    return directory


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def rewrite(directory: Path, change) -> None:
    tensors = weights(directory)
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


def reconfigure(directory: Path, **changes) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def equal(one: Reader, other: Reader) -> bool:
    ours, theirs = dict(one.named_parameters()), dict(other.named_parameters())
    return ours.keys() == theirs.keys() and all(torch.equal(p, theirs[n]) for n, p in ours.items())


# The identity


@VERSIONS
def test_export_then_import_is_the_identity(config, tmp_path: Path) -> None:
    reader = random_reader(config)
    again, notes = import_t5(exported(reader, tmp_path))
    assert equal(reader, again)
    assert again.config == reader.config
    assert notes.dropped == notes.merged == notes.copied == ()
    assert not again.training


@pytest.mark.parametrize("tied", [True, False], ids=["v1.0", "v1.1"])
def test_import_then_export_gives_the_same_file(tied: bool, tmp_path: Path) -> None:
    """All names and bytes; what transformers writes has no redundant copies."""
    pytest.importorskip("transformers")
    from oracles import hf_t5

    hf_t5(tied=tied).save_pretrained(tmp_path / "theirs")
    export_t5(import_t5(tmp_path / "theirs")[0], tmp_path / "ours")
    ours, theirs = (tmp_path / name / "model.safetensors" for name in ("ours", "theirs"))
    assert ours.read_bytes() == theirs.read_bytes()
    config, original = (json.loads((tmp_path / n / "config.json").read_text()) for n in ("ours", "theirs"))
    differing = {name for name, value in config.items() if original.get(name) != value}
    assert differing <= {"tie_word_embeddings"}  # transformers 5 writes true whatever it is


def test_lumen_that_was_only_split_is_exported_as_one_encoder(tmp_path: Path) -> None:
    reader = random_reader(V1_1.replace(live_layers=1))
    again, _ = import_t5(exported(reader, tmp_path), live_layers=1)
    assert equal(reader, again)


# Redundant copies


def test_copies_of_the_embedding_are_accepted(tied_t5: Path) -> None:
    expected, _ = import_t5(tied_t5)

    def add(tensors) -> None:
        for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"):
            tensors[name] = tensors["shared.weight"].clone()

    rewrite(tied_t5, add)
    assert equal(import_t5(tied_t5)[0], expected)
    rewrite(tied_t5, lambda tensors: tensors.pop("shared.weight"))
    assert equal(import_t5(tied_t5)[0], expected)


@pytest.mark.parametrize("name", ["encoder.embed_tokens.weight", "lm_head.weight"])
def test_copies_that_differ_are_refused(tied_t5: Path, name: str) -> None:
    rewrite(tied_t5, lambda tensors: tensors.update({name: tensors["shared.weight"] + 1}))
    with pytest.raises(CheckpointError, match=rf"{name} differs from shared\.weight"):
        import_t5(tied_t5)


def test_a_head_tied_without_scaling_becomes_its_own(t5: Path) -> None:
    rewrite(t5, lambda tensors: tensors.pop("lm_head.weight"))
    reconfigure(t5, tie_word_embeddings=True, scale_decoder_outputs=False)
    reader, notes = import_t5(t5)
    assert torch.equal(reader.head.linear.weight, reader.embedding.weight)
    assert reader.head.linear.weight is not reader.embedding.weight
    assert "tied to the embedding without scaling" in notes.remarks[0]


def test_the_bias_that_transformers_never_used_is_dropped(tied_t5: Path) -> None:
    expected, _ = import_t5(tied_t5)
    rewrite(tied_t5, lambda tensors: tensors.update({UNUSED: torch.zeros(32, 4)}))
    reader, notes = import_t5(tied_t5)
    assert equal(reader, expected)
    assert notes.dropped == (UNUSED,)


# Files


def test_pickles_and_shards(t5: Path, tmp_path: Path) -> None:
    expected, _ = import_t5(t5)
    tensors = weights(t5)
    (t5 / "model.safetensors").unlink()
    torch.save(tensors, t5 / "pytorch_model.bin")
    assert equal(import_t5(t5)[0], expected)

    (t5 / "pytorch_model.bin").unlink()
    names = sorted(tensors)
    places = {name: f"{1 + (i > len(names) // 2)}-of-2" for i, name in enumerate(names)}
    for kind, save in (("pytorch_model", torch.save), ("model", save_file)):
        end = {"pytorch_model": "bin", "model": "safetensors"}[kind]
        files = {name: f"{kind}-{place}.{end}" for name, place in places.items()}
        for file in set(files.values()):
            save({n: tensors[n] for n in names if files[n] == file}, t5 / file)
        index = t5 / f"{kind}.{end}.index.json"
        index.write_text(json.dumps({"weight_map": files}))
        assert equal(import_t5(t5)[0], expected)
        for file in t5.glob(f"{kind}*"):
            file.unlink()


def test_a_pickle_of_anything_but_tensors_is_not_run(t5: Path) -> None:
    (t5 / "model.safetensors").unlink()
    torch.save({"shared.weight": Path("x")}, t5 / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="tensors as PyTorch pickles them and nothing else"):
        import_t5(t5)


def test_bfloat16_is_widened(t5: Path) -> None:
    rewrite(t5, lambda tensors: tensors.update({n: t.bfloat16() for n, t in tensors.items()}))
    reader, notes = import_t5(t5)
    assert {p.dtype for p in reader.parameters()} == {torch.float32}
    assert "bfloat16" in notes.remarks[0]


def test_the_vocabulary_is_taken_over(tmp_path: Path) -> None:
    reader = Reader.from_preset("tiny-fid")
    passage = Passage("1", "Tides", "The moon pulls at the water.")
    again, _ = import_t5(exported(reader, tmp_path))
    assert again.tokenizer.passages([passage]) == reader.tokenizer.passages([passage])
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "title: Tides context: The moon pulls at the water."
    assert [*theirs(text, add_special_tokens=False).input_ids, 1] == reader.tokenizer.passages([passage])[0]
    assert (theirs.pad_token_id, theirs.eos_token_id) == (0, 1)


def test_a_sentencepiece_vocabulary_is_converted(t5: Path, tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    pytest.importorskip("transformers")
    text = tmp_path / "text"
    text.write_text("the moon pulls at the water and the water rises\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(t5 / "spiece"), vocab_size=36, hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    # transformers adds T5's 100 extra ids.
    config = V1_1.replace(vocabulary_size=160)
    exported(random_reader(config), t5)
    reader, _ = import_t5(t5)
    pieces = sentencepiece.SentencePieceProcessor(str(t5 / "spiece.model"))
    assert reader.tokenizer.target("the water rises") == [*pieces.encode("the water rises"), 1]


def test_without_a_vocabulary(t5: Path) -> None:
    reader, notes = import_t5(t5)
    assert reader.tokenizer is None
    assert "no vocabulary found" in notes.remarks[0]


# What is refused


def test_missing_unknown_and_wrongly_shaped_tensors_are_named(t5: Path) -> None:
    def spoil(tensors) -> None:
        del tensors["encoder.block.1.layer.0.SelfAttention.q.weight"]
        tensors["adapter.weight"] = torch.zeros(1)
        tensors["decoder.final_layer_norm.weight"] = torch.zeros(3)

    rewrite(t5, spoil)
    with pytest.raises(CheckpointError) as caught:
        import_t5(t5)
    message = str(caught.value)
    assert "missing encoder.block.1.layer.0.SelfAttention.q.weight" in message
    assert "unexpected adapter.weight" in message
    assert "decoder.final_layer_norm.weight is [3], expected [16]" in message
    assert "\n" not in message


def test_an_untied_checkpoint_without_its_head(t5: Path) -> None:
    rewrite(t5, lambda tensors: tensors.pop("lm_head.weight"))
    with pytest.raises(CheckpointError, match=r"missing lm_head\.weight"):
        import_t5(t5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bart"}, "model_type is 'bart', expected 't5'"),
        ({"feed_forward_proj": "gated-silu"}, "feed_forward_proj is 'gated-silu'"),
        ({"layer_norm_epsilon": 1e-5}, "layer_norm_epsilon is 1e-05"),
        ({"decoder_start_token_id": 2}, "decoder_start_token_id is 2"),
    ],
)
def test_configurations_that_no_reader_has(t5: Path, change: dict, message: str) -> None:
    reconfigure(t5, **change)
    with pytest.raises(CheckpointError, match=message):
        import_t5(t5)


def test_no_checkpoint_there(tmp_path: Path, t5: Path) -> None:
    with pytest.raises(CheckpointError, match="the Hugging Face hub did not give it"):
        import_t5("nobody/nothing-at-all")
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        import_t5(tmp_path)
    (t5 / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no weights in it"):
        import_t5(t5)


def test_damaged_weights(t5: Path) -> None:
    path = t5 / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="expected a safetensors file"):
        import_t5(t5)


def test_shards_that_lack_a_tensor_or_lie_elsewhere(t5: Path) -> None:
    (t5 / "model.safetensors").rename(t5 / "model-1.safetensors")
    index = t5 / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"absent": "model-1.safetensors"}}))
    with pytest.raises(CheckpointError, match="the shards lack absent"):
        import_t5(t5)
    index.write_text(json.dumps({"weight_map": {"absent": "../model-1.safetensors"}}))
    with pytest.raises(CheckpointError, match="outside the checkpoint's directory"):
        import_t5(t5)


WIDER = StackConfig(layers=2, width=20, heads=4, head_width=6, feed_forward=20)


@pytest.mark.parametrize(
    ("knobs", "reason"),
    [
        ({"cross_attention_every": 2}, "cross-attention in one of 2 decoder layers only"),
        ({"cross_kv_heads": 1}, "4 query heads share 4 key/value heads in self-attention and 1 in"),
        ({"decoder": WIDER, "shared_embedding": False}, "encoder and decoder differ in width"),
        ({"decoder": stack(2, feed_forward=8)}, "encoder and decoder differ in feed_forward"),
        ({"shared_embedding": False}, "have an embedding each"),
        ({"memory_encoder": stack(4)}, "a memory encoder of its own shape"),
        ({"rerank": {"after": 1, "keep": 2}}, "passages are scored"),
    ],
)
def test_readers_that_t5_cannot_hold(knobs: dict, reason: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"T5 can't hold this reader: .*{reason}"):
        export_t5(random_reader(small(**knobs)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("live", [0, 1, 2])
def test_encoders_trained_apart_are_not_one_encoder(live: int, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="trained apart"):
        export_t5(random_reader(small(live_layers=live), apart=True), tmp_path)


def test_what_the_foreign_config_cannot_say(tmp_path: Path) -> None:
    notes = export_t5(random_reader(small(kept_vectors=2, live_layers=1)), tmp_path)
    assert notes.remarks == ("T5's config.json doesn't say live_layers, kept_vectors",)


def test_load_takes_either_kind(t5: Path, tmp_path: Path) -> None:
    reader, _ = load(t5)
    reader.save_pretrained(tmp_path / "ours")
    again, notes = load(tmp_path / "ours")
    assert equal(reader, again)
    assert notes.lines() == []
    assert torch.equal(again(batch_of(EXAMPLES)).logits, reader(batch_of(EXAMPLES)).logits)


def test_a_reader_is_not_loaded_from_a_foreign_directory(t5: Path) -> None:
    with pytest.raises(Exception, match=r"Hugging Face checkpoint \(t5\).*fidkit convert"):
        Reader.from_pretrained(t5)
