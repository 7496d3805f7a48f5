"""T5X and flaxformer: T5 as Google's JAX code saves it, and FiDO's decoders with it.

Kernels are [in, out], the transpose of ours. Decoders may have cross-attention in every K-th layer only and
few key/value heads; layers may be stacked in one array (`scan`), alone or in blocks of K.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from fidkit import checkpoint
from fidkit.config import ReaderConfig, parse
from fidkit.convert import zarr
from fidkit.convert.assemble import assemble
from fidkit.convert.notes import Notes
from fidkit.convert.reshape import Knobs, Weights
from fidkit.errors import CheckpointError
from fidkit.reader import Reader

PARAMETERS = "target"
STATES = "state.param_states"
STACKED = re.compile(r"(encoder|decoder)\.\1\.(?:layers_(\d+)\.)?(.+)")
IN_BLOCK = re.compile(r"(encoder|decoder)\.layers_(\d+)\.layers_(\d+)\.(.+)")
TABLE = "relpos_bias.rel_embedding"
EMBEDDING = "token_embedder.embedding"
HEAD = "decoder.logits_dense.kernel"
MATRICES = ("query", "key", "value", "out")
MLP = {"t5": {"wi": "inner", "wo": "out"}, "t5-v1.1": {"wi_0": "gate", "wi_1": "inner", "wo": "out"}}


def import_t5x(directory: Path, **knobs: Unpack[Knobs]) -> tuple[Reader, Notes]:
    """The reader in a T5X checkpoint, or in the latest of a folder of them.

    Raises:
        CheckpointError: arrays missing, unknown or of another shape, or a model that no reader is.
        ConfigError: a shape that cannot be built.
    """
    found = zarr.find(directory) or directory
    tensors = unstack(zarr.read_arrays(found, PARAMETERS), str(found))
    config = _config(tensors, str(found))
    weights = _ours(config, tensors, str(found))
    return assemble(directory, config, weights, Notes(), **knobs)


def second_moments(directory: Path) -> Weights:
    """Adafactor's running means of squared gradients, by our parameters' names and in their shape.

    Those that were factored into rows and columns are left out.

    Raises:
        CheckpointError: not a T5X checkpoint that can be read.
    """
    found = zarr.find(directory) or directory
    config = _config(unstack(zarr.read_arrays(found, PARAMETERS), str(found)), str(found))
    # T5X keeps a single zero in the place of moments that it factored.
    whole = {n: t for n, t in zarr.read_arrays(found, STATES, ".v").items() if t.numel() > 1}
    names = table(config)
    return {names[n]: _turned(n, t) for n, t in unstack(whole, str(found)).items() if n in names}


# Names


def table(config: ReaderConfig) -> dict[str, str]:
    """T5X's name of every parameter of a reader that was never split -> ours."""
    names = {EMBEDDING: "embedding.weight"}
    if not config.shared_embedding:
        own = {f"encoder.{EMBEDDING}": "embedding.weight", f"decoder.{EMBEDDING}": "decoder.embedding.weight"}
        names = own
    if not config.tied_head:
        names[HEAD] = "head.linear.weight"
    for number in range(config.encoder.layers):
        names |= _layer("encoder", "live_encoder", number, {"attention": "attention"}, config)
    for number, reads in enumerate(config.cross_layers):
        parts = {"self_attention": "self_attention"}
        if reads:
            parts["encoder_decoder_attention"] = "cross_attention"
        names |= _layer("decoder", "decoder", number, parts, config)
    for stack, ours in (("encoder", "live_encoder"), ("decoder", "decoder")):
        names[f"{stack}.{TABLE}"] = f"{ours}.relative_bias.weight"
        names[f"{stack}.{stack}_norm.scale"] = f"{ours}.norm.weight"
    return names


def _layer(
    stack: str, ours: str, number: int, attentions: dict[str, str], config: ReaderConfig
) -> dict[str, str]:
    here, there = f"{stack}.layers_{number}", f"{ours}.layers.{number}"
    names = {f"{here}.pre_mlp_layer_norm.scale": f"{there}.feed_forward_norm.weight"}
    for theirs, own in attentions.items():
        norm = theirs.replace("encoder_decoder_", "cross_")
        names[f"{here}.pre_{norm}_layer_norm.scale"] = f"{there}.{own}_norm.weight"
        names |= {f"{here}.{theirs}.{m}.kernel": f"{there}.{own}.{m}.weight" for m in MATRICES}
    mlp = MLP[getattr(config, stack).family].items()
    return names | {f"{here}.mlp.{t}.kernel": f"{there}.feed_forward.{o}.weight" for t, o in mlp}


def _ours(config: ReaderConfig, tensors: Mapping[str, Tensor], where: str) -> Weights:
    shapes = {name: p.shape for name, p in Reader.without_weights(config).named_parameters()}
    names = table(config)
    expected = {
        theirs: _turned(theirs, torch.empty(shapes[o], device="meta")).shape for theirs, o in names.items()
    }
    checkpoint.compare(expected, tensors, where, "download the checkpoint again", source="its own shapes")
    return {names[name]: _turned(name, tensor).contiguous() for name, tensor in tensors.items()}


def _turned(name: str, tensor: Tensor) -> Tensor:
    return tensor.T if name.endswith((".kernel", TABLE)) and tensor.ndim == 2 else tensor


# Layers that share an array


def unstack(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """A tensor a layer, named `layers_N`, its heads side by side, and a table of relative bias a stack.

    Raises:
        CheckpointError: layers have tables of their own that differ.
    """
    single: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if match := STACKED.fullmatch(name):
            inner = f"layers_{match[2]}." if match[2] else ""
            for number in range(tensor.shape[1]):
                single[f"{match[1]}.layers_{number}.{inner}{match[3]}"] = tensor.select(1, number)
        else:
            single[name] = tensor
    return _one_table({name: _flat(name, t) for name, t in _out_of_blocks(single).items()}, where)


def _out_of_blocks(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Layers of blocks of layers, counted through."""
    matches = [match for match in map(IN_BLOCK.fullmatch, tensors) if match]
    size = {stack: 1 + max(int(m[3]) for m in matches if m[1] == stack) for stack in {m[1] for m in matches}}
    out = {}
    for name, tensor in tensors.items():
        if match := IN_BLOCK.fullmatch(name):
            number = int(match[2]) * size[match[1]] + int(match[3])
            name = f"{match[1]}.layers_{number}.{match[4]}"
        out[name] = tensor
    return out


def _flat(name: str, tensor: Tensor) -> Tensor:
    """Heads and their width in one axis: [in, heads, h] of queries, keys, values, [heads, h, out]."""
    if tensor.ndim != 3 or not name.endswith(".kernel"):
        return tensor
    return tensor.flatten(0, 1) if name.endswith(".out.kernel") else tensor.flatten(1)


def _one_table(tensors: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Scanned layers can't share a table; where they agree all the same, one stands for all."""
    out = {name: tensor for name, tensor in tensors.items() if not name.endswith(TABLE)}
    for stack in ("encoder", "decoder"):
        found = [t for name, t in tensors.items() if name.startswith(stack) and name.endswith(TABLE)]
        if any(not torch.equal(found[0], other) for other in found[1:]):
            raise CheckpointError(
                f"{where}: the {stack}'s layers have relative biases of their own (scalable T5, umT5), which "
                "isn't read from T5X; take umT5 as Hugging Face lays it out, or a checkpoint that shares them"
            )
        if found:
            out[f"{stack}.{TABLE}"] = found[0]
    return out


# Sizes


def _config(tensors: Mapping[str, Tensor], where: str) -> ReaderConfig:
    """The point that the arrays' shapes and names say. T5's largest relative distance is taken, 128."""
    needed = [f"{s}.{TABLE}" for s in ("encoder", "decoder")]
    needed += ["encoder.layers_0.attention.query.kernel", "decoder.layers_0.self_attention.query.kernel"]
    needed += [f"{s}.layers_0.mlp.wo.kernel" for s in ("encoder", "decoder")]
    missing = [name for name in needed if name not in tensors or tensors[name].ndim != 2]
    if missing:
        raise CheckpointError(
            f"{where}: expected a T5X checkpoint of an encoder and a decoder, but {', '.join(missing)} are "
            "missing or no matrices; give the folder checkpoint_N with its arrays"
        )
    shared = EMBEDDING in tensors
    embedding = tensors.get(EMBEDDING if shared else f"decoder.{EMBEDDING}")
    encoder, decoder = _stack(tensors, "encoder", "attention"), _stack(tensors, "decoder", "self_attention")
    fields: dict[str, Any] = {
        "encoder": encoder,
        "decoder": decoder,
        "vocabulary_size": 32128 if embedding is None else len(embedding),
        "block": "t5-v1.1" if "encoder.layers_0.mlp.wi_0.kernel" in tensors else "t5",
        "tied_head": HEAD not in tensors,
        "shared_embedding": shared,
        "relative_buckets": tensors[f"encoder.{TABLE}"].shape[1],
        **_cross_attention(tensors, decoder, where),
    }
    config: ReaderConfig = parse(ReaderConfig, fields, where)
    return config


def _stack(tensors: Mapping[str, Tensor], stack: str, attention: str) -> dict[str, int]:
    width, inner = tensors[f"{stack}.layers_0.{attention}.query.kernel"].shape
    heads = tensors[f"{stack}.{TABLE}"].shape[0]
    numbers = (re.match(rf"{stack}\.layers_(\d+)\.", name) for name in tensors)
    return {
        "layers": 1 + max(int(match[1]) for match in numbers if match),
        "width": width,
        "heads": heads,
        "head_width": inner // heads,
        "feed_forward": tensors[f"{stack}.layers_0.mlp.wo.kernel"].shape[0],
    }


def _cross_attention(tensors: Mapping[str, Tensor], decoder: dict[str, int], where: str) -> dict[str, int]:
    """Which layers read the context, and the key/value heads of both attentions."""
    pattern = r"decoder\.layers_(\d+)\.encoder_decoder_attention\.key\.kernel"
    numbers = sorted(int(match[1]) for match in (re.fullmatch(pattern, name) for name in tensors) if match)
    every = numbers[0] + 1 if numbers else 0
    if not numbers or numbers != list(range(every - 1, decoder["layers"], every)):
        raise CheckpointError(
            f"{where}: cross-attention in decoder layers {', '.join(map(str, numbers)) or 'none'} (from 0); "
            "expected every K-th layer of the decoder"
        )
    kernels = {
        "self_kv_heads": "decoder.layers_0.self_attention.key.kernel",
        "cross_kv_heads": f"decoder.layers_{every - 1}.encoder_decoder_attention.key.kernel",
    }
    width = decoder["head_width"]
    heads = {knob: tensors[name].shape[-1] // width for knob, name in kernels.items() if name in tensors}
    return {"cross_attention_every": every, **heads}
