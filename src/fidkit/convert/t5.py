"""Hugging Face's T5, T5 v1.1 and Flan-T5 in and out.

T5 holds a FiD reader whose two stacks have the same width, heads and feed-forward size. The tensors are the
same under other names (`table`), so import and export change no value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

import torch
from safetensors.torch import save_file
from torch import Tensor

from fidkit import checkpoint
from fidkit.config import ReaderConfig, parse
from fidkit.convert import files
from fidkit.convert.notes import Notes
from fidkit.convert.reshape import Knobs, Weights, build, join_encoder, reshape_weights
from fidkit.convert.vocabulary import read_vocabulary
from fidkit.errors import CheckpointError
from fidkit.reader import Reader
from fidkit.tokens import FILE as TOKENIZER

EPSILON = 1e-6
FEED_FORWARD = {"relu": "t5", "gated-gelu": "t5-v1.1"}

EMBEDDING = "shared.weight"
HEAD = "lm_head.weight"
# Copies of the embedding that some versions of transformers write beside it.
EMBEDDING_COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
# In T5's first releases; transformers has never used it.
UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"

ATTENTION = {"q": "query", "k": "key", "v": "value", "o": "out"}
MLP = {
    "t5": {"wi": "inner", "wo": "out"},
    "t5-v1.1": {"wi_0": "gate", "wi_1": "inner", "wo": "out"},
}


def table(config: ReaderConfig) -> dict[str, str]:
    """T5's name of every parameter of a reader that T5 can hold -> ours."""
    names = {EMBEDDING: "embedding.weight"}
    if not config.tied_head:
        names[HEAD] = "head.linear.weight"
    for stack, ours, layers in (
        ("encoder", "live_encoder", config.encoder.layers),
        ("decoder", "decoder", config.decoder.layers),
    ):
        first = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        names[first] = f"{ours}.relative_bias.weight"
        names[f"{stack}.final_layer_norm.weight"] = f"{ours}.norm.weight"
        for number in range(layers):
            for theirs, own in _layer(stack, config.block).items():
                place = f"{stack}.block.{number}.layer.{theirs}.weight"
                names[place] = f"{ours}.layers.{number}.{own}.weight"
    return names


def _layer(stack: str, block: str) -> dict[str, str]:
    """One layer's names: sub-layers are numbered in T5, by what they do here."""
    self_attention = "attention" if stack == "encoder" else "self_attention"
    sublayers = [(self_attention, "SelfAttention", ATTENTION)]
    if stack == "decoder":
        sublayers.append(("cross_attention", "EncDecAttention", ATTENTION))
    sublayers.append(("feed_forward", "DenseReluDense", MLP[block]))
    names = {}
    for number, (own, theirs, matrices) in enumerate(sublayers):
        names[f"{number}.layer_norm"] = f"{own}_norm"
        names |= {f"{number}.{theirs}.{t}": f"{own}.{o}" for t, o in matrices.items()}
    return names


# In


def import_t5(path_or_name: str | Path, **knobs: Unpack[Knobs]) -> tuple[Reader, Notes]:
    """A reader with the weights of a T5 checkpoint, in T5's shape or, by rule, in another.

    Args:
        path_or_name: a directory, or a name on the Hugging Face hub.
        knobs: see `fidkit.convert.reshape.Knobs`.

    Raises:
        CheckpointError: not there, not T5, or tensors missing, unknown or of another shape.
        ConfigError: a shape that cannot be built.
    """
    directory = files.locate(path_or_name)
    record = files.read_json(directory / checkpoint.CONFIG)
    foreign = files.read_weights(directory)
    config, foreign, notes = _read(record, foreign, str(directory))
    backend = read_vocabulary(directory, config)
    if backend is None:
        notes += Notes(remarks=(f"no vocabulary found; put its {TOKENIZER} beside the converted weights",))
    names = table(config)
    weights = {names[name]: tensor for name, tensor in foreign.items()}
    config, weights, changes = reshape_weights(config, weights, backend, **knobs)
    return build(config, weights, backend, str(directory)), notes + changes


def _read(record: dict[str, Any], tensors: Weights, where: str) -> tuple[ReaderConfig, Weights, Notes]:
    """Configuration and exactly the tensors that it calls for, without the redundant ones."""
    remarks: list[str] = []
    # transformers scales the logits of a tied head by width ** -0.5. Version 5 says so with a key of its own
    # and ties all heads, unless the checkpoint has one that differs.
    tied = record.get("scale_decoder_outputs", record.get("tie_word_embeddings") is not False)
    config = _config(record, tied=tied, where=where)
    tensors = _without_copies(tensors, (*EMBEDDING_COPIES, HEAD) if tied else EMBEDDING_COPIES, where)
    dropped = (UNUSED,) if tensors.pop(UNUSED, None) is not None else ()
    if not tied and HEAD not in tensors and "scale_decoder_outputs" in record and EMBEDDING in tensors:
        tensors[HEAD] = tensors[EMBEDDING].clone()
        remarks.append("the head was tied to the embedding without scaling; it is now a copy of its own")
    _check(config, tensors, where)
    narrow = sorted({str(t.dtype).removeprefix("torch.") for t in tensors.values()} - {"float32"})
    if narrow:
        remarks.append(f"weights stored as {', '.join(narrow)} are kept as float32")
    return config, tensors, Notes(dropped=dropped, remarks=tuple(remarks))


def _without_copies(tensors: Weights, copies: tuple[str, ...], where: str) -> Weights:
    """One embedding, whichever of its names the checkpoint uses."""
    tensors = dict(tensors)
    for name in copies:
        copy = tensors.pop(name, None)
        if copy is not None and not torch.equal(tensors.setdefault(EMBEDDING, copy), copy):
            raise CheckpointError(
                f"{where}: {name} differs from {EMBEDDING}, but its config.json ties them; "
                'a head of its own needs "tie_word_embeddings": false'
            )
    return tensors


def _config(record: dict[str, Any], *, tied: bool, where: str) -> ReaderConfig:
    """Our configuration for transformers' `T5Config`, whose defaults are filled in."""
    if record.get("model_type") != "t5":
        raise CheckpointError(f"{where}: model_type is {record.get('model_type')!r}, expected 't5'")
    activation = record.get("feed_forward_proj", "relu")
    if activation not in FEED_FORWARD:
        raise CheckpointError(
            f"{where}: feed_forward_proj is {activation!r}, expected one of {', '.join(FEED_FORWARD)}"
        )
    epsilon = record.get("layer_norm_epsilon", EPSILON)
    if epsilon != EPSILON:
        raise CheckpointError(f"{where}: layer_norm_epsilon is {epsilon}, expected {EPSILON}")
    pad = record.get("pad_token_id", 0)
    start = record.get("decoder_start_token_id", pad)
    if start not in (pad, None):
        raise CheckpointError(
            f"{where}: decoder_start_token_id is {start}, expected the padding token, {pad}"
        )
    stack = {
        "width": record.get("d_model", 512),
        "heads": record.get("num_heads", 8),
        "head_width": record.get("d_kv", 64),
        "feed_forward": record.get("d_ff", 2048),
    }
    layers = record.get("num_layers", 6)
    fields = {
        "encoder": {**stack, "layers": layers},
        "decoder": {**stack, "layers": record.get("num_decoder_layers") or layers},
        "vocabulary_size": record.get("vocab_size", 32128),
        "block": FEED_FORWARD[activation],
        "tied_head": tied,
        "relative_buckets": record.get("relative_attention_num_buckets", 32),
        "relative_max_distance": record.get("relative_attention_max_distance", 128),
        "dropout": record.get("dropout_rate", 0.1),
        "pad_token": pad,
        "end_token": record.get("eos_token_id", 1),
    }
    config: ReaderConfig = parse(ReaderConfig, fields, where)
    return config


def _check(config: ReaderConfig, tensors: Mapping[str, Tensor], where: str) -> None:
    """Every tensor of the table there, in its shape, and no other."""
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in Reader(config).named_parameters()}
    expected = {theirs: shapes[ours] for theirs, ours in table(config).items()}
    checkpoint.compare(expected, tensors, where, "download the checkpoint again, or mend its config.json")


# Out


def export_t5(reader: Reader, directory: str | Path) -> Notes:
    """Write `reader` as Hugging Face's T5: `config.json`, `model.safetensors`, `tokenizer.json`.

    Raises:
        CheckpointError: T5 can't hold this reader; the message says why. Nothing is written.
    """
    config, weights = _t5_shaped(reader)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {theirs: weights[ours].cpu().contiguous() for theirs, ours in table(config).items()}
    checkpoint.replace_file(
        directory / files.SAFETENSORS, lambda path: save_file(tensors, path, metadata={"format": "pt"})
    )
    if reader.tokenizer is not None:
        checkpoint.replace_file(directory / TOKENIZER, reader.tokenizer.save)
        _write_json(directory / "tokenizer_config.json", _tokenizer_record(reader))
    _write_json(directory / checkpoint.CONFIG, _record(config))
    return Notes(remarks=_lost(reader.config))


def _t5_shaped(reader: Reader) -> tuple[ReaderConfig, Weights]:
    config = reader.config
    reasons = []
    if config.cross_attention_every > 1:
        reasons.append(f"cross-attention in one of {config.cross_attention_every} decoder layers only")
    if config.kv_heads != (config.decoder.heads, config.decoder.heads):
        own, cross = config.kv_heads
        reasons.append(
            f"{config.decoder.heads} query heads share {own} key/value heads in self-attention "
            f"and {cross} in cross-attention"
        )
    reasons += [
        f"encoder and decoder differ in {name}"
        for name in ("width", "heads", "head_width", "feed_forward")
        if getattr(config.encoder, name) != getattr(config.decoder, name)
    ]
    if not config.shared_embedding:
        reasons.append("encoder and decoder have an embedding each")
    if config.memory_encoder is not None:
        reasons.append("a memory encoder of its own shape")
    if config.rerank is not None:
        reasons.append("passages are scored")
    if reasons:
        raise CheckpointError(
            f"T5 can't hold this reader: {'; '.join(reasons)}; export the reader that it was made from"
        )
    return join_encoder(config, {name: p.detach() for name, p in reader.named_parameters()})


def _lost(config: ReaderConfig) -> tuple[str, ...]:
    lost = [
        name
        for name, plain in (
            ("live_layers", config.encoder.layers),
            ("live_attention", "full"),
            ("kept_vectors", None),
            ("question_in_context", "each"),
        )
        if getattr(config, name) != plain
    ]
    return (f"T5's config.json doesn't say {', '.join(lost)}",) if lost else ()


def _record(config: ReaderConfig) -> dict[str, Any]:
    """`config.json` as transformers reads it."""
    stack = config.encoder
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "d_ff": stack.feed_forward,
        "d_kv": stack.head_width,
        "d_model": stack.width,
        "decoder_start_token_id": config.pad_token,
        "dropout_rate": config.dropout,
        "dtype": "float32",
        "eos_token_id": config.end_token,
        "feed_forward_proj": {ours: theirs for theirs, ours in FEED_FORWARD.items()}[config.block],
        "is_encoder_decoder": True,
        "layer_norm_epsilon": EPSILON,
        "model_type": "t5",
        "num_decoder_layers": config.decoder.layers,
        "num_heads": stack.heads,
        "num_layers": stack.layers,
        "pad_token_id": config.pad_token,
        "relative_attention_max_distance": config.relative_max_distance,
        "relative_attention_num_buckets": config.relative_buckets,
        "tie_word_embeddings": config.tied_head,
        "use_cache": True,
        "vocab_size": config.vocabulary_size,
    }


def _tokenizer_record(reader: Reader) -> dict[str, Any]:
    """Tells transformers to take `tokenizer.json` as it is."""
    assert reader.tokenizer is not None
    token = reader.tokenizer.backend.id_to_token
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": token(reader.config.pad_token),
        "eos_token": token(reader.config.end_token),
    }


def _write_json(path: Path, record: dict[str, Any]) -> None:
    text = json.dumps(record, indent=2) + "\n"
    checkpoint.replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
