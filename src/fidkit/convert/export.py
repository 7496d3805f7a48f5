"""Readers out: as Hugging Face's T5 or BERT, and as the directory that facebookresearch/FiD loads.

T5 and FiD hold a FiD reader whose two stacks have the same width, heads and feed-forward size, BERT holds the
encoder of a reader; no value is changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from fidkit import checkpoint
from fidkit.checkpoint.pooling import Pooling
from fidkit.config import ReaderConfig
from fidkit.convert import bert, fid, files
from fidkit.convert.notes import Notes
from fidkit.convert.pooling import write_modules
from fidkit.convert.reshape import Weights, join_encoder
from fidkit.convert.t5 import EPSILON, FEED_FORWARD, UMT5, table
from fidkit.errors import CheckpointError
from fidkit.reader import Reader
from fidkit.tokens import FILE as TOKENIZER

FAMILIES = {ours: theirs for theirs, ours in FEED_FORWARD.items()}
_OF_T5 = (*FAMILIES, UMT5)


def export_t5(reader: Reader, directory: str | Path) -> Notes:
    """Write `reader` as Hugging Face's T5: `config.json`, `model.safetensors`, `tokenizer.json`.

    Raises:
        CheckpointError: T5 can't hold this reader; the message says why. Nothing is written.
    """
    config, tensors = _t5_shaped(reader)
    directory = _new(directory)
    checkpoint.replace_file(
        directory / files.SAFETENSORS, lambda path: save_file(tensors, path, metadata={"format": "pt"})
    )
    kind = "UMT5" if config.encoder.family == UMT5 else "T5"
    _write_records(reader, _record(config, f"{kind}ForConditionalGeneration"), directory)
    remarks = _lost(reader.config)
    if kind == "UMT5" and not config.tied_head:
        remarks += ("transformers 5 scales umT5's logits by width ** -0.5, which changes no greedy answer",)
    return Notes(remarks=remarks)


def export_fid(reader: Reader, directory: str | Path) -> Notes:
    """Write `reader` as FiD does: `config.json` and `pytorch_model.bin`, its encoder's names wrapped.

    `tokenizer.json` stands beside them; FiD itself takes the vocabulary of t5-base.

    Raises:
        CheckpointError: FiD can't hold this reader; the message says why. Nothing is written.
    """
    config, tensors = _t5_shaped(reader)
    if config.encoder.family == UMT5:
        raise CheckpointError("FiD can't hold this reader: it is umT5; export it with --to hf-t5")
    directory = _new(directory)
    wrapped = fid.wrap(tensors, buckets=config.relative_buckets, heads=config.decoder.heads)
    checkpoint.replace_file(directory / files.PICKLE, lambda path: torch.save(wrapped, path))
    _write_records(reader, _record(config, fid.ARCHITECTURE), directory)
    remarks = _lost(reader.config)
    if config.encoder.family != "t5" or not config.tied_head:
        remarks += ("FiD's own code, with the transformers 3.0.2 that it asks for, reads T5 v1.0 alone",)
    return Notes(remarks=remarks)


def export_bert(reader: Reader, directory: str | Path, pooling: Pooling | None = None) -> Notes:
    """Write the encoder of `reader` as Hugging Face's BERT, in the same three files.

    Args:
        reader: whose encoder is of BERT's layout.
        directory: made if missing.
        pooling: also write what sentence-transformers reads beside it.

    Raises:
        CheckpointError: BERT can't hold this encoder; the message says why. Nothing is written.
    """
    config = reader.config
    if config.encoder.family != "bert":
        fits = config.encoder.family in _OF_T5
        advice = "export it with --to hf-t5" if fits else "nothing that can be exported is of that family"
        raise CheckpointError(
            f"BERT can't hold this reader: its encoder is {config.encoder.family}; {advice}"
        )
    config, weights = join_encoder(config, {name: p.detach() for name, p in reader.named_parameters()})
    tensors = bert.foreign(config, weights)
    directory = _new(directory)
    checkpoint.replace_file(
        directory / files.SAFETENSORS, lambda path: save_file(tensors, path, metadata={"format": "pt"})
    )
    _write_records(reader, bert.record(config), directory)
    if pooling is not None:
        write_modules(pooling, config.encoder.width, directory)
    left = "the decoder" if config.memory_encoder is None else "the decoder and the memory encoder"
    return Notes(remarks=(f"BERT is an encoder: {left} isn't written",))


def _new(directory: str | Path) -> Path:
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _write_records(reader: Reader, record: dict[str, Any], directory: Path) -> None:
    if reader.tokenizer is not None:
        checkpoint.replace_file(directory / TOKENIZER, reader.tokenizer.save)
        _write_json(directory / "tokenizer_config.json", _tokenizer_record(reader))
    _write_json(directory / checkpoint.CONFIG, record)


def _t5_shaped(reader: Reader) -> tuple[ReaderConfig, Weights]:
    """The reader's configuration with one encoder, and its tensors under T5's names."""
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
        for name in ("width", "heads", "head_width", "feed_forward", "family")
        if getattr(config.encoder, name) != getattr(config.decoder, name)
    ]
    if not config.shared_embedding:
        reasons.append("encoder and decoder have an embedding each")
    if config.encoder.family not in _OF_T5:
        reasons.append(f"the encoder is {config.encoder.family}")
    if config.token_skip or config.standardised_embedding or config.head_bias:
        reasons.append(
            "the decoder reads tokens beside states, a standardised table, or has a bias of its head"
        )
    if config.memory_encoder is not None:
        reasons.append("a memory encoder of its own shape")
    if config.rerank is not None:
        reasons.append("passages are scored")
    if reasons:
        raise CheckpointError(
            f"T5 can't hold this reader: {'; '.join(reasons)}; export the reader that it was made from"
        )
    config, weights = join_encoder(config, {name: p.detach() for name, p in reader.named_parameters()})
    return config, {theirs: weights[ours].cpu().contiguous() for theirs, ours in table(config).items()}


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


def _record(config: ReaderConfig, architecture: str) -> dict[str, Any]:
    """`config.json` as transformers reads it."""
    stack = config.encoder
    own = stack.family == UMT5
    return {
        "architectures": [architecture],
        "d_ff": stack.feed_forward,
        "d_kv": stack.head_width,
        "d_model": stack.width,
        "decoder_start_token_id": config.pad_token,
        "dropout_rate": config.dropout,
        "dtype": "float32",
        "eos_token_id": config.end_token,
        "feed_forward_proj": "gated-gelu" if own else FAMILIES[stack.family],
        "is_encoder_decoder": True,
        "layer_norm_epsilon": EPSILON,
        "model_type": UMT5 if own else "t5",
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
    token, config = reader.tokenizer.backend.id_to_token, reader.config
    record = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": token(config.pad_token)}
    if config.start_token is not None:
        record |= {"cls_token": token(config.start_token), "sep_token": token(config.end_token)}
        return record | {"model_max_length": config.positions}
    return record | {"eos_token": token(config.end_token)}


def _write_json(path: Path, record: dict[str, Any]) -> None:
    text = json.dumps(record, indent=2) + "\n"
    checkpoint.replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
