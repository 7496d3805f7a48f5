"""Second moments through a change of shape: means have the mean of their moments, and copies have copies."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from fidkit import checkpoint
from fidkit.checkpoint.moments import FILE, Moments, check_moments, load_moments, save_moments
from fidkit.config import ReaderConfig
from fidkit.convert.grow import move_layers
from fidkit.convert.heads import USUAL, merge_moments
from fidkit.convert.notes import Notes
from fidkit.convert.reshape import TABLE, Knobs, keeps_scores, reshape_weights
from fidkit.reader import Reader


def reshape_moments(config: ReaderConfig, moments: Moments, **knobs: Unpack[Knobs]) -> Moments:
    """Moments of a reader of `config` for what `reshape` with these `knobs` makes of it.

    What is drawn or starts at zero has none: scores, a projection of memory, a memory encoder that was taken
    from elsewhere, and whatever has grown.
    """
    before, tensors = config, dict(moments.tensors)
    if knobs.get("live_layers") is not None:
        tensors = {name: t for name, t in tensors.items() if not _is_copy(config, name)}
    if knobs.get("memory_encoder") is not None:
        tensors = {name: t for name, t in tensors.items() if not name.startswith("memory_")}
    stack, others = knobs.get("decoder"), Knobs(**knobs)
    others["decoder"] = None
    if (heads := knobs.get("kv_heads")) is not None:
        config, tensors = merge_moments(config, tensors, heads, knobs.get("kv_heads_from") or USUAL)
        others["kv_heads"] = None
    new, tensors, _ = reshape_weights(config, tensors, None, **others)
    if stack is not None:
        tensors = move_layers(new, tensors, stack)
    drawn: tuple[str, ...] = ()
    if knobs.get("memory_encoder") is not None:
        drawn += ("memory_",)
    if knobs.get("rerank") is not None and not keeps_scores(before, new):
        drawn += ("reranker.",)
    return Moments({name: t for name, t in tensors.items() if not name.startswith(drawn)}, moments.steps)


def carry_moments(source: str | Path, reader: Reader, destination: Path, **knobs: Unpack[Knobs]) -> Notes:
    """Write those beside `source` beside `destination`, for the `reader` that it was converted to.

    Raises:
        CheckpointError: they are damaged, or belong to another reader than the one beside them.
    """
    directory = Path(source)
    moments = load_moments(directory)
    if moments is None:
        return Notes()
    config = ReaderConfig.load(directory / checkpoint.CONFIG)
    before = Reader.without_weights(config)
    check_moments(moments, {n: p.shape for n, p in before.named_parameters()}, str(directory / FILE))
    reshaped = reshape_moments(config, moments, **knobs)
    shapes = {name: p.shape for name, p in reader.named_parameters()}
    kept = {name: t for name, t in reshaped.tensors.items() if shapes.get(name) == t.shape}
    save_moments(Moments(kept, moments.steps), destination)
    trained = sum(p.requires_grad for p in reader.parameters())
    remark = f"carried the second moments of {len(kept)} tensors"
    fresh = sum(p.requires_grad for name, p in reader.named_parameters() if name not in kept)
    return Notes(remarks=(f"{remark}; {fresh} of {trained} start without" if fresh else remark,))


def _is_copy(config: ReaderConfig, name: str) -> bool:
    """Of a parameter that the conversion takes as equal to another one, whose moment is taken instead."""
    if name == f"live_encoder.{TABLE}":
        return bool(config.question_layers)
    return name.startswith("memory_encoder.") and config.memory_encoder is None
