"""T5's names and configuration, and ours: T5 v1.0, v1.1, LM-adapted and Flan.

The tensors are the same under other names (`table`), so that a way in and out changes no value. What builds
on T5 differs from it in names or files only: FiD, fastRAG, Atlas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fidkit import checkpoint
from fidkit.config import ReaderConfig, parse
from fidkit.convert.kinds import Foreign
from fidkit.convert.notes import Notes
from fidkit.convert.reshape import Weights
from fidkit.errors import CheckpointError
from fidkit.reader import Reader

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
            for theirs, own in _layer(stack, getattr(config, stack).family).items():
                place = f"{stack}.block.{number}.layer.{theirs}.weight"
                names[place] = f"{ours}.layers.{number}.{own}.weight"
    return names


def _layer(stack: str, family: str) -> dict[str, str]:
    """One layer's names: sub-layers are numbered in T5, by what they do here."""
    self_attention = "attention" if stack == "encoder" else "self_attention"
    sublayers = [(self_attention, "SelfAttention", ATTENTION)]
    if stack == "decoder":
        sublayers.append(("cross_attention", "EncDecAttention", ATTENTION))
    sublayers.append(("feed_forward", "DenseReluDense", MLP[family]))
    names = {}
    for number, (own, theirs, matrices) in enumerate(sublayers):
        names[f"{number}.layer_norm"] = f"{own}_norm"
        names |= {f"{number}.{theirs}.{t}": f"{own}.{o}" for t, o in matrices.items()}
    return names


def read(found: Foreign) -> tuple[ReaderConfig, Weights, Notes]:
    """`read_t5` of a checkpoint as Hugging Face lays it out."""
    return read_t5(found.record, found.tensors, found.where)


def read_t5(
    record: dict[str, Any], tensors: Weights, where: str, *, source: str = f"its {checkpoint.CONFIG}"
) -> tuple[ReaderConfig, Weights, Notes]:
    """Our configuration and weights, under our names, of T5's.

    Args:
        record: as transformers' `config.json` has it.
        tensors: by T5's names; redundant copies are left out.
        where: the checkpoint, for messages.
        source: what `record` comes from, for messages.

    Raises:
        CheckpointError: not T5, or tensors missing, unknown or of another shape.
    """
    remarks: list[str] = []
    # transformers scales the logits of a tied head by width ** -0.5. Version 5 says so with a key of its own
    # and ties all heads, unless the checkpoint has one that differs.
    tied = record.get("scale_decoder_outputs", record.get("tie_word_embeddings") is not False)
    tensors = dict(tensors)
    if record.get("scale_decoder_outputs") is True and _has_own_head(tensors):
        # What comes in is scaled, so the product is that of a scaled matrix.
        tensors[HEAD] = tensors[HEAD].float() * float(tensors[HEAD].shape[1]) ** -0.5
        tied = False
        remarks.append("the head isn't tied, but scaled as a tied one; the scale is in its weights now")
    config = _config(record, tied=tied, where=where)
    tensors = _without_copies(tensors, (*EMBEDDING_COPIES, HEAD) if tied else EMBEDDING_COPIES, where)
    dropped = (UNUSED,) if tensors.pop(UNUSED, None) is not None else ()
    if not tied and HEAD not in tensors and "scale_decoder_outputs" in record and EMBEDDING in tensors:
        tensors[HEAD] = tensors[EMBEDDING].clone()
        remarks.append("the head was tied to the embedding without scaling; it is now a copy of its own")
    ends = record.get("eos_token_id")
    if isinstance(ends, list) and len(ends) > 1:
        remarks.append(f"of its ends of sequence {ends} the first is taken")
    weights = _ours(config, tensors, where, source)
    narrow = sorted({str(t.dtype).removeprefix("torch.") for t in tensors.values()} - {"float32"})
    if narrow:
        remarks.append(f"weights stored as {', '.join(narrow)} are kept as float32")
    return config, weights, Notes(dropped=dropped, remarks=tuple(remarks))


def _has_own_head(tensors: Weights) -> bool:
    head = tensors.get(HEAD)
    embedding = next((tensors[n] for n in (EMBEDDING, *EMBEDDING_COPIES) if n in tensors), None)
    if head is None or embedding is None or head.ndim != 2:
        return False
    return not torch.equal(head, embedding)


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
        "end_token": _first(record.get("eos_token_id", 1)),
    }
    config: ReaderConfig = parse(ReaderConfig, fields, where)
    return config


def _first(token: Any) -> Any:
    """Of several ends of sequence, which generation may have; readers write the first."""
    return token[0] if isinstance(token, list) and token else token


def _ours(config: ReaderConfig, tensors: Mapping[str, Tensor], where: str, source: str) -> Weights:
    """Our names; every tensor of the table is there, in its shape, and no other."""
    shapes = {name: p.shape for name, p in Reader.without_weights(config).named_parameters()}
    names = table(config)
    expected = {theirs: shapes[ours] for theirs, ours in names.items()}
    remedy = f"download the checkpoint again, or mend {source}"
    checkpoint.compare(expected, tensors, where, remedy, source=source)
    return {names[name]: tensor for name, tensor in tensors.items()}
