"""A larger decoder that starts as the same function as a smaller one, for the asymmetric sizes of FiDO.

Depth: new layers are copies of their neighbours whose outputs are zero, so that each adds nothing yet. Layers
with cross-attention go where the larger decoder has it.

Width: the vectors between layers get new places that are zero. What writes to them is zero, what reads from
them is drawn as in a new reader; and the norms' weights make up for a mean square over more places. New
feed-forward units, heads and places in heads are drawn, and what comes out of them is zero. So whatever is
new gets a gradient from the first step on, and nothing of it is a copy that would stay one.

Both keep all logits, up to rounding and to the norms' epsilon (1e-6 beside the mean square of a vector).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fidkit.config import ReaderConfig, StackConfig
from fidkit.convert.notes import Notes
from fidkit.errors import ConfigError, UsageError
from fidkit.nn.blocks import Embedding
from fidkit.nn.decoder import Decoder
from fidkit.nn.initialise import initialise
from fidkit.preset import PRESETS, SIZES

LAYER = re.compile(r"decoder\.layers\.(\d+)\.(.+)")
FIELDS = ("layers", "width", "heads", "head_width", "feed_forward")
OWN_EMBEDDING, SHARED_EMBEDDING = "decoder.embedding.weight", "embedding.weight"
HEAD = "head.linear.weight"
OUTPUTS = ("self_attention.out.weight", "cross_attention.out.weight", "feed_forward.out.weight")
SEED = 0


def decoder_stack(name: str) -> StackConfig:
    """The stack that a size of T5 is made of, or the decoder of a preset.

    Raises:
        UsageError: neither; names the sizes.
    """
    if name in SIZES:
        return SIZES[name]
    if name in PRESETS:
        return PRESETS[name].decoder
    raise UsageError(
        f"no decoder size {name!r}; choose one of {', '.join(SIZES)}, or a preset with the decoder"
    )


def grow_decoder(
    config: ReaderConfig, weights: Mapping[str, Tensor], stack: StackConfig
) -> tuple[ReaderConfig, dict[str, Tensor], Notes]:
    """The reader with a decoder of the sizes of `stack`; what is drawn is always the same.

    Multi-head attention stays multi-head, and fewer key/value heads stay as many, shared by more queries.

    Raises:
        ConfigError: the decoder is larger than `stack` in something, or its key/value heads don't divide the
            new heads.
    """
    new = grown_config(config, stack)
    if new == config:
        return config, dict(weights), Notes()
    drawn = _drawn(new)
    grown = {name: weight for name, weight in weights.items() if not name.startswith(("decoder.", "head."))}
    for name in drawn:
        source, silent = _source(config, new, name)
        if name == HEAD and source not in weights:
            continue  # tied
        if name == OWN_EMBEDDING and new.shared_embedding:
            continue
        grown[name] = _widened(config, new, name, weights[source], drawn[name])
        if silent:
            grown[name] = torch.zeros_like(grown[name])
    added = new.decoder.layers - config.decoder.layers
    said = f"the decoder has grown from {_said(config.decoder)} to {_said(new.decoder)}"
    detail = f"; {added} of its layers are new and add nothing until they are trained" if added else ""
    return new, grown, Notes(remarks=(said + detail,))


def move_layers(config: ReaderConfig, tensors: Mapping[str, Tensor], stack: StackConfig) -> dict[str, Tensor]:
    """`tensors` under the names that the same parameters have after `grow_decoder`."""
    places = layer_places(config.cross_layers, grown_config(config, stack).cross_layers)
    moved = {}
    for name, tensor in tensors.items():
        layer = LAYER.fullmatch(name)
        moved[f"decoder.layers.{places[int(layer[1])]}.{layer[2]}" if layer else name] = tensor
    return moved


def grown_config(config: ReaderConfig, stack: StackConfig) -> ReaderConfig:
    """The configuration after growth; raises as `grow_decoder` does."""
    old = config.decoder
    if not old.blocks.final_norm:
        raise ConfigError(f"a decoder of family {old.family}, with norms behind its layers, can't grow")
    smaller = [
        f"{name} is {getattr(old, name)}, more than {getattr(stack, name)}"
        for name in FIELDS
        if getattr(old, name) > getattr(stack, name)
    ]
    if smaller:
        raise ConfigError(
            f"this decoder can't grow to {_said(stack)}: its {'; its '.join(smaller)}; choose a larger size"
        )
    stack = stack.replace(family=old.family)  # sizes alone
    heads = {
        name: stack.heads if count == old.heads and count > 1 else count
        for name, count in zip(("self_kv_heads", "cross_kv_heads"), config.kv_heads, strict=True)
    }
    uneven = sorted({count for count in heads.values() if stack.heads % count})
    if uneven:
        raise ConfigError(
            f"this decoder has {uneven[0]} key/value heads, which don't divide {stack.heads} heads; "
            "give --kv-heads 1 as well, or choose another size"
        )
    shared = config.shared_embedding and stack.width == config.encoder.width
    new: ReaderConfig = config.replace(decoder=stack.model_dump(), shared_embedding=shared, **heads)
    return new


def layer_places(old: Sequence[bool], new: Sequence[bool]) -> list[int]:
    """Where each old layer goes: in order, evenly spread, cross-attention to cross-attention.

    Args:
        old: whether each layer has cross-attention.
        new: the same of the larger decoder; begins with `old`.
    """
    latest, after = [0] * len(old), len(new)
    for n in reversed(range(len(old))):
        after = max(place for place in range(after) if new[place] == old[n])
        latest[n] = after
    every = new.index(True) + 1  # layers up to one with cross-attention stay together
    groups, more = -(-len(old) // every), -(-len(new) // every)
    places: list[int] = []
    for n, kind in enumerate(old):
        wanted = min(n // every * more // groups * every + n % every, latest[n])
        first = max(places[-1] + 1 if places else 0, wanted)
        places.append(next(place for place in range(first, len(new)) if new[place] == kind))
    return places


def _source(config: ReaderConfig, new: ReaderConfig, name: str) -> tuple[str, bool]:
    """The old parameter that a new one is made of, and whether it is to be zero for the time being."""
    if name == OWN_EMBEDDING:
        return (SHARED_EMBEDDING if config.shared_embedding else name), False
    layer = LAYER.fullmatch(name)
    if layer is None:
        return name, False
    number, rest = int(layer[1]), layer[2]
    places = layer_places(config.cross_layers, new.cross_layers)
    alike = list(range(len(places)))
    if rest.startswith("cross_attention"):
        alike = [n for n in alike if config.cross_layers[n]]
    old = max((n for n in alike if places[n] <= number), default=alike[0])
    return f"decoder.layers.{old}.{rest}", rest in OUTPUTS and number not in places


def _drawn(config: ReaderConfig) -> dict[str, Tensor]:
    """A new decoder and head, as `fidkit.nn.initialise` says."""
    generator = torch.Generator().manual_seed(SEED)
    embedding = Embedding(1, config.decoder.width)  # nothing of it is used but its name
    decoder = Decoder(config, embedding)
    initialise(decoder, generator)
    drawn = {f"decoder.{name}": p.detach() for name, p in decoder.named_parameters()}
    head = torch.empty(config.vocabulary_size, config.decoder.width)
    return drawn | {HEAD: head.normal_(0.0, config.decoder.width**-0.5, generator=generator)}


def _widened(config: ReaderConfig, new: ReaderConfig, name: str, old: Tensor, drawn: Tensor) -> Tensor:
    """`old` in the shape of the new parameter, with zeros or drawn numbers around it; see the module."""
    wide, before = new.decoder.width, config.decoder.width
    if name == OWN_EMBEDDING:
        return torch.cat([old, old.new_zeros(len(old), wide - before)], 1)
    if name.endswith("norm.weight"):
        # A tied head is scaled by width ** -0.5, which falls by as much as the norm would make up for.
        last_of_tied = name == "decoder.norm.weight" and config.tied_head
        scaled = old * (1.0 if last_of_tied else (before / wide) ** 0.5)
        return torch.cat([scaled, scaled.mean().expand(wide - before)])
    if ".key." in name or ".value." in name or ".query." in name:
        return _heads_in(config, new, name, old, drawn)
    if "attention.out." in name:
        kind = "cross" if "cross" in name else "self"
        grown = torch.zeros_like(drawn).unflatten(1, (new.decoder.heads, new.decoder.head_width))
        width = config.decoder.head_width
        grown[:before, _head_places(config, new, kind), :width] = old.unflatten(
            1, (config.decoder.heads, width)
        )
        return grown.flatten(1)
    grown = torch.zeros_like(drawn) if name.endswith("feed_forward.out.weight") else drawn.clone()
    if name == "decoder.relative_bias.weight":
        grown[:, _head_places(config, new, "self")] = old
    else:
        grown[tuple(slice(size) for size in old.shape)] = old
    return grown


def _heads_in(config: ReaderConfig, new: ReaderConfig, name: str, old: Tensor, drawn: Tensor) -> Tensor:
    """Query, key or value matrix: [heads * head width, inputs], with old heads in their places."""
    kind, width = ("cross" if "cross" in name else "self"), config.decoder.head_width
    query = ".query." in name
    count = config.decoder.heads if query else config.kv_heads[kind == "cross"]
    total = new.decoder.heads if query else new.kv_heads[kind == "cross"]
    places = _head_places(config, new, kind) if query else list(range(count))
    grown = drawn.clone().unflatten(0, (total, new.decoder.head_width))
    if ".key." in name:
        # Or the new places of a query would add to its scores.
        grown[places, width:] = 0.0
    inputs = old.shape[1]
    rows = grown[places]
    rows[:, :width, :inputs] = old.unflatten(0, (count, width))
    grown[places] = rows
    return grown.flatten(0, 1)


def _head_places(config: ReaderConfig, new: ReaderConfig, kind: str) -> list[int]:
    """Where each old query head goes, so that it keeps its key/value head."""
    cross = kind == "cross"
    before = config.decoder.heads // config.kv_heads[cross]
    after = new.decoder.heads // new.kv_heads[cross]
    return [head // before * after + head % before for head in range(config.decoder.heads)]


def _said(stack: StackConfig) -> str:
    return (
        f"{stack.layers} layers of width {stack.width} ({stack.heads} heads of {stack.head_width}, "
        f"feed-forward {stack.feed_forward})"
    )
