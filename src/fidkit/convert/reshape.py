"""A reader's weights in another shape: fewer cross-attention layers, fewer key/value heads, a split encoder.

What the new shape has no place for is dropped, heads become one (`fidkit.convert.heads`), and the encoder's
first layers become the memory and the question encoder (LUMEN), or those of another reader the memory
encoder. Scores start at zero. A reshaped reader wants a little training.

All but what is checked or drawn goes by names, and leaves alone what isn't there. So second moments, which
not every parameter has, take the same way (`fidkit.convert.moments`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Literal, TypedDict, Unpack

import tokenizers
import torch
from torch import Tensor

from fidkit import checkpoint
from fidkit.config import ReaderConfig, RerankConfig, StackConfig
from fidkit.convert.fresh import require_no_decoder
from fidkit.convert.grow import grow_decoder
from fidkit.convert.heads import USUAL, Way, merge_heads
from fidkit.convert.memory_encoder import take_memory_encoder
from fidkit.convert.notes import Notes
from fidkit.errors import CheckpointError, ConfigError
from fidkit.reader import Reader
from fidkit.tokens import Tokenizer

Weights = dict[str, Tensor]

LAYER = re.compile(r"(question_encoder|live_encoder)\.layers\.(\d+)\.(.+)")
CROSS = re.compile(r"decoder\.layers\.(\d+)\.(cross_attention.+)")
TABLE = "relative_bias.weight"
UNCALIBRATED = "the calibration was of the reader as it was: train this one, then run `fidkit calibrate`"


class Knobs(TypedDict, total=False):
    """What of a reader's shape is to change; None, or absent, leaves it as it is.

    Attributes:
        cross_attention_every: keep cross-attention in every K-th decoder layer only.
        cross_attention_from: what a layer that keeps it has for it: its `own`, which is the nearest trained
            one; or the `mean` of its own and those that were dropped below it.
        kv_heads: key/value heads of the decoder; neighbouring heads become one.
        kv_heads_from: what that one has: what `svd` finds that they can share, or their `mean`; see
            `fidkit.convert.heads`.
        live_layers: encoder layers that run per question, as a number or a proportion such as `"1/3"`; the
            others become memory and question encoder.
        memory_encoder: a reader whose encoder becomes the memory encoder.
        rerank: score passages after some live layers and keep the best. Scores that were made of what the
            same layer leaves are kept; others start at zero.
        decoder: sizes that the decoder grows to, as the same function; see `fidkit.convert.grow`.
        decoder_layers, seed: layers of the decoder that is drawn for a checkpoint without one, and the seed
            that it is drawn with; see `fidkit.convert.fresh`.
    """

    cross_attention_every: int | None
    cross_attention_from: Literal["own", "mean"] | None
    kv_heads: int | None
    kv_heads_from: Way | None
    live_layers: int | str | Fraction | None
    memory_encoder: Reader | None
    rerank: RerankConfig | None
    decoder: StackConfig | None
    decoder_layers: int | None
    seed: int | None


def reshape(reader: Reader, **knobs: Unpack[Knobs]) -> tuple[Reader, Notes]:
    """A reader of another shape with weights of its own; see `Knobs`.

    Its calibration is kept where nothing changed.

    Raises:
        ConfigError: a shape that cannot be built, or that needs weights the reader doesn't have.
        CheckpointError: another `live_layers`, but the memory encoder was trained apart from the rest; or a
            memory encoder with another vocabulary or other layers.
    """
    weights = {name: p.detach().clone() for name, p in reader.named_parameters()}
    backend = None if reader.tokenizer is None else reader.tokenizer.backend
    config, weights, notes = reshape_weights(reader.config, weights, backend, **knobs)
    own = None if reader.tokenizer is None else reader.tokenizer.passage_backend
    own = passage_backend(config, knobs.get("memory_encoder")) or own
    made = build(config, weights, backend, "the reshaped reader", own)
    if made.config == reader.config and _equal(made, reader):
        made.calibration = reader.calibration
    elif reader.calibration is not None:
        notes += Notes(remarks=(UNCALIBRATED,))
    return made, notes


def _equal(one: Reader, other: Reader) -> bool:
    """Whether two readers of one shape have the same weights."""
    return all(torch.equal(p, other.get_parameter(name)) for name, p in one.named_parameters())


def passage_backend(config: ReaderConfig, source: Reader | None) -> tokenizers.Tokenizer | None:
    """The vocabulary that passages have of their own since their memory encoder is that of `source`."""
    if source is None or source.tokenizer is None or config.memory_vocabulary_size is None:
        return None
    return source.tokenizer.backend


def build(
    config: ReaderConfig,
    weights: Weights,
    backend: tokenizers.Tokenizer | None,
    where: str,
    passages: tokenizers.Tokenizer | None = None,
) -> Reader:
    """A reader in eval mode made of `weights`, which it keeps; `passages` is their own vocabulary."""
    own = passages if config.memory_vocabulary_size is not None else None
    tokenizer = None if backend is None else Tokenizer(backend, config, own)
    reader = Reader.without_weights(config, tokenizer)
    checkpoint.assign(reader, weights, where)
    return reader.eval()


def reshape_weights(
    config: ReaderConfig,
    weights: Weights,
    backend: tokenizers.Tokenizer | None = None,
    **knobs: Unpack[Knobs],
) -> tuple[ReaderConfig, Weights, Notes]:
    """`reshape` on a configuration and the weights and vocabulary that belong to it."""
    notes, given, given_weights = Notes(), config, weights
    require_no_decoder(knobs.get("decoder_layers"), knobs.get("seed"))
    if (every := knobs.get("cross_attention_every")) is not None:
        mean = knobs.get("cross_attention_from") == "mean"
        config, weights, more = _keep_cross_attention(config, weights, every, mean=mean)
        notes += more
    if (heads := knobs.get("kv_heads")) is not None:
        config, weights, more = merge_heads(config, weights, heads, knobs.get("kv_heads_from") or USUAL)
        notes += more
    if (stack := knobs.get("decoder")) is not None:
        config, weights, more = grow_decoder(config, weights, stack)
        notes += more
    if (rerank := knobs.get("rerank")) is not None:
        config, weights = _without_scores(config, weights)
    if (live := knobs.get("live_layers")) is not None:
        config, weights = join_encoder(config, weights)
        config, weights, more = _split_encoder(config, weights, live)
        notes += more
    if (memory := knobs.get("memory_encoder")) is not None:
        config, weights, more = take_memory_encoder(config, weights, backend, memory)
        notes += more
    if rerank is not None:
        config = config.replace(rerank=rerank.model_dump())
        weights |= _scores(given, config, given_weights)
    return config, weights, notes


def _keep_cross_attention(
    config: ReaderConfig, weights: Weights, every: int, *, mean: bool
) -> tuple[ReaderConfig, Weights, Notes]:
    new = config.replace(cross_attention_every=every)
    before, after = config.cross_layers, new.cross_layers
    new_layers = [str(n) for n in range(len(after)) if after[n] and not before[n]]
    if new_layers:
        raise ConfigError(
            f"cross_attention_every {every} needs cross-attention in decoder layers {', '.join(new_layers)} "
            f"(from 0), which this reader doesn't have; choose a multiple of {config.cross_attention_every}"
        )
    gone = [f"decoder.layers.{n}.cross_attention" for n in range(len(after)) if before[n] and not after[n]]
    dropped = tuple(
        name for name in weights if name.startswith(tuple(f"{g}{end}" for g in gone for end in "._"))
    )
    kept = {name: w for name, w in weights.items() if name not in dropped}
    if not mean or every == config.cross_attention_every:
        return new, kept, Notes(dropped=dropped)
    kept |= {name: _mean_of_group(config, weights, name, every) for name in filter(CROSS.fullmatch, kept)}
    remark = "each cross-attention that is left is the mean of those it stands for"
    return new, kept, Notes(dropped=dropped, remarks=(remark,))


def _mean_of_group(config: ReaderConfig, weights: Weights, name: str, every: int) -> Tensor:
    """Mean over the layers up to the one named, from the next below that keeps its cross-attention."""
    layer = CROSS.fullmatch(name)
    assert layer is not None
    group = range(int(layer[1]) + 1 - every, int(layer[1]) + 1)
    names = [f"decoder.layers.{n}.{layer[2]}" for n in group if config.cross_layers[n]]
    return torch.stack([weights[n] for n in names if n in weights]).mean(0)


def join_encoder(config: ReaderConfig, weights: Mapping[str, Tensor]) -> tuple[ReaderConfig, Weights]:
    """The encoder as one live stack again, where memory and question encoder are still parts of one.

    A memory encoder of its own shape is left as it is.

    Raises:
        CheckpointError: they were trained apart.
    """
    joined: Weights = {}
    for name, weight in weights.items():
        if name.startswith("memory_encoder.") and config.memory_encoder is None:
            _require_equal(weights, name, _source_of_memory(name))
        elif name == f"live_encoder.{TABLE}" and config.question_layers:
            _require_equal(weights, name, f"question_encoder.{TABLE}")
        elif name == f"question_encoder.{TABLE}":
            joined[f"live_encoder.{TABLE}"] = weight
        elif layer := LAYER.fullmatch(name):
            number = int(layer[2]) + (config.question_layers if layer[1] == "live_encoder" else 0)
            joined[f"live_encoder.layers.{number}.{layer[3]}"] = weight
        else:
            joined[name] = weight
    return config.replace(live_layers=config.encoder.layers), joined


def _source_of_memory(name: str) -> str:
    rest = name.removeprefix("memory_encoder.")
    return rest if rest.startswith("embedding.") else rest.replace("encoder.", "question_encoder.", 1)


def _require_equal(weights: Mapping[str, Tensor], name: str, source: str) -> None:
    if not torch.equal(weights[name], weights[source]):
        raise CheckpointError(
            f"{name} is no longer equal to {source}: this reader's encoders were trained apart and don't fit "
            "into one; convert the reader that it was made from"
        )


def _split_encoder(
    config: ReaderConfig, weights: Weights, live: int | str | Fraction
) -> tuple[ReaderConfig, Weights, Notes]:
    """The first layers become question encoder and memory encoder (copies), the rest stays live."""
    new: ReaderConfig = config.replace(live_layers=live)
    asked = new.question_layers
    if not asked:
        return new, weights, Notes()
    split: Weights = {}
    for name, weight in weights.items():
        layer = LAYER.fullmatch(name)
        if layer and int(layer[2]) >= asked:
            split[f"live_encoder.layers.{int(layer[2]) - asked}.{layer[3]}"] = weight
        elif layer or name == f"live_encoder.{TABLE}":
            split[name.replace("live_encoder", "question_encoder")] = weight
        else:
            split[name] = weight
    # Copies, not views: training one must not change the other.
    twins = {}
    if new.memory_encoder is None:
        twins = {
            f"memory_encoder.{name.replace('question_encoder', 'encoder')}": weight.clone()
            for name, weight in split.items()
            if name.startswith(("question_encoder.", "embedding."))
        }
    if new.live and f"question_encoder.{TABLE}" in split:
        twins[f"live_encoder.{TABLE}"] = split[f"question_encoder.{TABLE}"].clone()
    remarks: tuple[str, ...] = ()
    if not new.live and new.question_in_context == "each":
        # Nothing mixes question and passage any more, so its vectors would be the same in each passage.
        new = new.replace(question_in_context="once")
        remarks = (
            "without live layers the question stands once in the context (question_in_context = once)",
        )
    return new, split | twins, Notes(copied=tuple(twins), remarks=remarks)


def _without_scores(config: ReaderConfig, weights: Weights) -> tuple[ReaderConfig, Weights]:
    left = {name: weight for name, weight in weights.items() if not name.startswith("reranker.")}
    return config.replace(rerank=None), left


def keeps_scores(before: ReaderConfig, after: ReaderConfig) -> bool:
    """Whether both rerank by what the same layer of the encoder leaves, counted from its first one."""
    if before.rerank is None or after.rerank is None:
        return False
    return before.rerank.after - before.live == after.rerank.after - after.live


def _scores(before: ReaderConfig, after: ReaderConfig, weights: Weights) -> Weights:
    """Weights of scores: those that were there, or in another place zeros, as in a new reader.

    With zeros passages keep their order until they are trained.
    """
    if keeps_scores(before, after):
        return {name: weight for name, weight in weights.items() if name.startswith("reranker.")}
    width = after.encoder.width
    return {"reranker.norm.weight": torch.ones(width), "reranker.weight": torch.zeros(width)}
