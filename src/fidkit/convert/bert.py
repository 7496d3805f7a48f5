"""BERT's names and configuration, and ours: BERT, MiniLM, E5, BGE, GTE and others of its layout.

Such a checkpoint is an encoder. Its tensors are the same under other names (`table`), so that a way in and
out changes no value; the pooler and heads for other tasks are left out. Its reader reads
`[CLS] question [SEP] title [SEP] text [SEP]`, the passage from a fixed position on
(`fidkit.nn.families.bert`), and has a fresh decoder that starts out able to copy (`fidkit.nn.copying`).
"""

from __future__ import annotations

from typing import Any

import tokenizers
from tokenizers import decoders
from torch import Tensor

from fidkit import checkpoint
from fidkit.config import TWO_PARTS, ReaderConfig, parse
from fidkit.convert.fresh import LAYERS, decoder_for
from fidkit.convert.kinds import Foreign
from fidkit.convert.notes import Notes
from fidkit.convert.reshape import Weights
from fidkit.errors import CheckpointError
from fidkit.reader import Reader

EXPECTED: dict[str, Any] = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
    "is_decoder": False,
    "add_cross_attention": False,
}
"""What `config.json` may say of its layers, or leave out; others compute something else."""
START, END = "[CLS]", "[SEP]"
LEFT_OUT = ("pooler.", "cls.", "classifier.", "qa_outputs.")
"""Beginnings of names of what no reader has: the pooler, and heads for other tasks."""
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
QUESTION_TOKENS, PASSAGE_TOKENS = 48, 208

EMBEDDINGS = {
    "word_embeddings.weight": "weight",
    "position_embeddings.weight": "positions.weight",
    "token_type_embeddings.weight": "types.weight",
    "LayerNorm.weight": "norm.weight",
    "LayerNorm.bias": "norm.bias",
}
LAYER = {
    "attention.self.query": "attention.query",
    "attention.self.key": "attention.key",
    "attention.self.value": "attention.value",
    "attention.output.dense": "attention.out",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "feed_forward.inner",
    "output.dense": "feed_forward.out",
    "output.LayerNorm": "feed_forward_norm",
}


def table(config: ReaderConfig) -> dict[str, str]:
    """BERT's name of every parameter of a reader's encoder, all of it live -> ours."""
    return of_embeddings(EMBEDDINGS) | of_layers(config, LAYER)


def of_embeddings(names: dict[str, str]) -> dict[str, str]:
    """Names of the parameters of an embedding, each under what all of them are of."""
    return {f"embeddings.{theirs}": f"embedding.{mine}" for theirs, mine in names.items()}


def of_layers(config: ReaderConfig, names: dict[str, str]) -> dict[str, str]:
    """The same of all layers; `names` are of the modules of one, each with a weight and a bias."""
    found = {}
    for number in range(config.encoder.layers):
        for theirs, mine in names.items():
            for leaf in ("weight", "bias"):
                place = f"encoder.layer.{number}.{theirs}.{leaf}"
                found[place] = f"live_encoder.layers.{number}.{mine}.{leaf}"
    return found


def read(found: Foreign) -> tuple[ReaderConfig, Weights, Notes]:
    """Our configuration, with a decoder of usual sizes, and the encoder's weights under our names.

    Raises:
        CheckpointError: other layers than BERT's, no vocabulary with BERT's tokens, or tensors missing,
            unknown or of another shape.
    """
    expect(found, EXPECTED)
    positions = positions_of(found.record.get("max_position_embeddings", 512), found.where)
    config = config_of(found, "bert", positions, START, END)
    tensors, left = of_the_encoder(found.tensors)
    weights = ours(config, table(config), tensors, found.where)
    return config, weights, Notes(remarks=remarks_on(found, config, tensors, left))


def expect(found: Foreign, expected: dict[str, Any], defaults: dict[str, Any] | None = None) -> None:
    """Layers compute what ours do.

    Args:
        found: the checkpoint.
        expected: what `config.json` may say.
        defaults: what is meant where it says nothing, if not the same.

    Raises:
        CheckpointError: it says something else.
    """
    for name, value in expected.items():
        said = found.record.get(name)
        said = (defaults or {}).get(name, value) if said is None else said
        if said != value:
            raise CheckpointError(f"{found.where}: {name} is {said!r}, expected {value!r}")


def positions_of(given: Any, where: str) -> int:
    """Of learned positions, how many there are."""
    if not isinstance(given, int) or given < 16:
        raise CheckpointError(f"{where}: max_position_embeddings is {given!r}, expected 16 or more")
    return given


def remarks_on(found: Foreign, config: ReaderConfig, tensors: Weights, left: list[str]) -> tuple[str, ...]:
    """What is said of an encoder that was read: what was left out, widened, or has no use."""
    remarks = []
    if left:
        shown = ", ".join(left[:3]) + (", …" if len(left) > 3 else "")
        remarks.append(f"left out what readers have no use for: {len(left)} tensors ({shown})")
    narrow = sorted({str(t.dtype).removeprefix("torch.") for t in tensors.values()} - {"float32"})
    if narrow:
        remarks.append(f"weights stored as {', '.join(narrow)} are kept as float32")
    assert found.backend is not None
    if (spare := config.vocabulary_size - found.backend.get_vocab_size()) > 0:
        remarks.append(f"{spare} of its {config.vocabulary_size} embeddings have no token")
    return tuple(remarks)


def of_the_encoder(tensors: Weights, others: tuple[str, ...] = ()) -> tuple[Weights, list[str]]:
    """Of the encoder alone, by today's names; and the names of what is left out, `others` among them."""
    plain, left = {}, []
    for name, tensor in tensors.items():
        if name.startswith((*LEFT_OUT, *others)):
            left.append(name)
            continue
        for old, new in OLD_NAMES.items():
            name = name.removesuffix(old) + new if name.endswith(old) else name
        plain[name] = tensor
    return plain, sorted(left)


def config_of(found: Foreign, family: str, positions: int, start: str, end: str) -> ReaderConfig:
    """Our configuration for transformers' `BertConfig` and its like, whose defaults are filled in.

    Args:
        found: the checkpoint.
        family: of its layers.
        positions: that it has learned.
        start: token that begins a row.
        end: token that ends a text.

    Raises:
        CheckpointError: sizes that can't be, or a vocabulary without these tokens.
    """
    record, where = found.record, found.where
    start_token, end_token = _ends(found.backend, where, start, end)
    width, heads = record.get("hidden_size", 768), record.get("num_attention_heads", 12)
    if not isinstance(width, int) or not isinstance(heads, int) or heads < 1 or width % heads:
        raise CheckpointError(f"{where}: {heads!r} num_attention_heads must divide hidden_size {width!r}")
    encoder = {
        "layers": record.get("num_hidden_layers", 12),
        "width": width,
        "heads": heads,
        "head_width": width // heads,
        "feed_forward": record.get("intermediate_size", 3072),
        "family": family,
    }
    question = min(QUESTION_TOKENS, positions // 4)
    fields = {
        "encoder": encoder,
        "decoder": decoder_for(width, heads, LAYERS),
        "vocabulary_size": record.get("vocab_size", 30522),
        "tied_head": True,
        "standardised_embedding": True,
        "head_bias": True,
        "token_skip": True,
        "frozen": ("memory", "embedding"),
        "dropout": record.get("hidden_dropout_prob", 0.1),
        "positions": positions,
        "passage_position": question,
        "question_tokens": question,
        "passage_tokens": min(PASSAGE_TOKENS, positions - question),
        "question_format": "{question}",
        "passage_format": TWO_PARTS,
        "pad_token": record.get("pad_token_id", 0),
        "start_token": start_token,
        "question_end_token": end_token,
        "title_end_token": end_token,
        "end_token": end_token,
    }
    config: ReaderConfig = parse(ReaderConfig, fields, where)
    return config


def _ends(backend: tokenizers.Tokenizer | None, where: str, *names: str) -> tuple[int, int]:
    """What begins a row, and what ends a text; its vocabulary gets a decoder where it has none."""
    if backend is None:
        raise CheckpointError(
            f"{where}: no vocabulary; expected its tokenizer.json or vocab.txt beside the weights"
        )
    start, end = map(backend.token_to_id, names)
    if start is None or end is None:
        missing = [name for name, token in zip(names, (start, end), strict=True) if token is None]
        raise CheckpointError(
            f"{where}: its vocabulary lacks {', '.join(missing)}; expected that of BERT (WordPiece)"
        )
    if backend.decoder is None:
        backend.decoder = decoders.WordPiece()
    return start, end


def ours(config: ReaderConfig, names: dict[str, str], tensors: Weights, where: str) -> Weights:
    """Our names; every tensor of the table `names` is there, in its shape, and no other."""
    shapes = {name: p.shape for name, p in Reader.without_weights(config).named_parameters()}
    expected = {theirs: shapes[mine] for theirs, mine in names.items()}
    checkpoint.compare(expected, tensors, where, "download the checkpoint again, or mend its config.json")
    return {names[name]: tensor for name, tensor in tensors.items()}


def record(config: ReaderConfig) -> dict[str, Any]:
    """`config.json` as transformers reads it."""
    stack = config.encoder
    return {
        "architectures": ["BertModel"],
        "attention_probs_dropout_prob": config.dropout,
        "dtype": "float32",
        **EXPECTED,
        "hidden_dropout_prob": config.dropout,
        "hidden_size": stack.width,
        "intermediate_size": stack.feed_forward,
        "max_position_embeddings": config.positions,
        "model_type": "bert",
        "num_attention_heads": stack.heads,
        "num_hidden_layers": stack.layers,
        "pad_token_id": config.pad_token,
        "vocab_size": config.vocabulary_size,
    }


def foreign(config: ReaderConfig, weights: Weights) -> dict[str, Tensor]:
    """BERT's names for the encoder of a reader with all layers live."""
    return {theirs: weights[mine].cpu().contiguous() for theirs, mine in table(config).items()}
