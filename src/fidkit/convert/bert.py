"""BERT's names and configuration, and ours: BERT, MiniLM, E5, BGE, GTE; with or without `bert.` in front.

Such a checkpoint is an encoder. Its reader has a fresh decoder beside it, which starts out able to copy
(`fidkit.nn.copying`) and wants training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
import torch

from fidkit.config import ReaderConfig, parse
from fidkit.convert.notes import Notes
from fidkit.convert.reshape import Weights
from fidkit.errors import CheckpointError
from fidkit.nn.copying import start_copying
from fidkit.reader import Reader
from fidkit.tokens import FILE

EPSILON = 1e-12
DECODER_LAYERS = 2
"""As the probes had them: two read as well as more at this size."""
QUESTION_TOKENS, PASSAGE_TOKENS = 48, 208
FORMATS = {"question_format": "{question}", "passage_format": "{title}{text}"}
UNUSED = ("pooler.", "cls.")
"""Heads of other tasks."""

_EMBEDDINGS = {
    "word_embeddings.weight": "embedding.weight",
    "position_embeddings.weight": "embedding.positions.weight",
    "token_type_embeddings.weight": "embedding.types.weight",
    "LayerNorm.weight": "embedding.norm.weight",
    "LayerNorm.bias": "embedding.norm.bias",
}
_LAYER = {
    "attention.self.query": "attention.query",
    "attention.self.key": "attention.key",
    "attention.self.value": "attention.value",
    "attention.output.dense": "attention.out",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "feed_forward.inner",
    "output.dense": "feed_forward.out",
    "output.LayerNorm": "feed_forward_norm",
}


def table(layers: int) -> dict[str, str]:
    """BERT's name of every parameter of an encoder -> ours."""
    names = {f"embeddings.{theirs}": ours for theirs, ours in _EMBEDDINGS.items()}
    for number in range(layers):
        for theirs, ours in _LAYER.items():
            for kind in ("weight", "bias"):
                names[f"encoder.layer.{number}.{theirs}.{kind}"] = (
                    f"live_encoder.layers.{number}.{ours}.{kind}"
                )
    return names


def read_bert(record: dict[str, Any], tensors: Weights, where: str) -> tuple[ReaderConfig, Weights, Notes]:
    """Our configuration and weights, under our names, of BERT's, with a fresh decoder.

    Args:
        record: as transformers' `config.json` has it.
        tensors: by BERT's names.
        where: the checkpoint's directory, where its vocabulary is.

    Raises:
        CheckpointError: what this family can't hold, or tensors missing or unknown.
    """
    config = _config(record, where)
    names = table(config.encoder.layers)
    found = {_plain(name): tensor for name, tensor in tensors.items()}
    dropped = tuple(sorted(name for name in found if name.startswith(UNUSED)))
    missing = sorted(names.keys() - found.keys())
    unknown = sorted(found.keys() - names.keys() - set(dropped))
    if missing or unknown:
        raise CheckpointError(
            f"{where}: not BERT's tensors; missing: {', '.join(missing[:5]) or 'none'}; "
            f"unknown: {', '.join(unknown[:5]) or 'none'}"
        )
    fresh = Reader(config)
    generator = torch.Generator().manual_seed(0)
    fresh.reset_parameters(generator)
    start_copying(fresh.decoder, generator)
    weights = {name: p.detach() for name, p in fresh.named_parameters()}
    weights |= {ours: found[theirs] for theirs, ours in names.items()}
    remark = f"a fresh decoder of {config.decoder.layers} layers, which starts out able to copy; train it"
    return config, weights, Notes(dropped=dropped, remarks=(remark,))


def _plain(name: str) -> str:
    name = name.removeprefix("bert.")
    return name.replace(".gamma", ".weight").replace(".beta", ".bias")


def _config(record: dict[str, Any], where: str) -> ReaderConfig:
    for key, wanted in (
        ("hidden_act", "gelu"),
        ("position_embedding_type", "absolute"),
        ("layer_norm_eps", EPSILON),
        ("type_vocab_size", 2),
        ("is_decoder", False),
    ):
        if record.get(key, wanted) != wanted:
            raise CheckpointError(f"{where}: {key} is {record[key]!r}; this family has {wanted!r}")
    try:
        width, heads = record["hidden_size"], record["num_attention_heads"]
        encoder = {
            "layers": record["num_hidden_layers"],
            "width": width,
            "heads": heads,
            "head_width": width // heads,
            "feed_forward": record["intermediate_size"],
            "family": "bert",
        }
        positions, vocabulary = record["max_position_embeddings"], record["vocab_size"]
    except KeyError as error:
        raise CheckpointError(f"{where}: its config.json says no {error}; download it again") from error
    pad, start, end = _special(Path(where) / FILE)
    passage = min(QUESTION_TOKENS, positions // 4)
    fields = {
        "encoder": encoder,
        "decoder": _decoder(width),
        "vocabulary_size": vocabulary,
        "positions": positions,
        "passage_position": passage,
        "question_tokens": passage,
        "passage_tokens": min(PASSAGE_TOKENS, positions - passage),
        "pad_token": pad,
        "end_token": end,
        "start_token": start,
        "question_end_token": end,
        "title_end_token": end,
        "tied_head": True,
        "standardised_embedding": True,
        "head_bias": True,
        "token_skip": True,
        "frozen": ("memory", "embedding"),
        **FORMATS,
    }
    config: ReaderConfig = parse(ReaderConfig, fields, where)
    return config


def _decoder(width: int) -> dict[str, Any]:
    """Sizes of a decoder behind an encoder of this width."""
    heads = max(1, width // 64)
    return {
        "layers": DECODER_LAYERS,
        "width": width,
        "heads": heads,
        "head_width": width // heads,
        "feed_forward": -(-8 * width // 3 // 64) * 64,
        "family": "t5-v1.1",
    }


def _special(path: Path) -> tuple[int, int, int]:
    """Numbers of what fills up, starts and ends a text."""
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(
            f"{path}: expected the vocabulary of this checkpoint, but {error}; put its tokenizer.json there"
        ) from error
    pad, start, end = (backend.token_to_id(name) for name in ("[PAD]", "[CLS]", "[SEP]"))
    if pad is None or start is None or end is None:
        raise CheckpointError(f"{path}: no [PAD], [CLS] or [SEP], which BERT's texts are made with")
    return pad, start, end
