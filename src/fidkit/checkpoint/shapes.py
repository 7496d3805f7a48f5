"""Which parameters a reader has, and in which shapes: asked before anything is computed with them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from fidkit import assets
from fidkit.arrays import Array
from fidkit.checkpoint.files import SCALE
from fidkit.config import ReaderConfig, StackConfig
from fidkit.errors import CheckpointError

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def shapes_of(config: ReaderConfig) -> dict[str, tuple[int, ...]]:
    """Of all parameters by name, those of `fidkit.reader.Reader`; each under its first name.

    For readers whose encoders and decoder are of families that the CPU's kernels suit.
    """
    return dict(_reader(config))


def _reader(config: ReaderConfig) -> Shapes:
    encoder, decoder, memory = config.encoder, config.decoder, config.memory_stack
    yield from _embedding(config, encoder, config.vocabulary_size, "embedding.")
    if config.memory_layers:
        of_passages = config.passage_vocabulary_size
        yield from _embedding(config, memory, of_passages, "memory_encoder.embedding.")
        yield from _encoder(config, memory, config.memory_layers, "memory_encoder.encoder.")
    if config.projects_memory:
        yield "memory_projection.weight", (encoder.width, config.memory_width)
    yield from _encoder(config, encoder, config.question_layers, "question_encoder.")
    yield from _encoder(config, encoder, config.live, "live_encoder.")
    if encoder.blocks.final_norm:
        yield from _norm(encoder, "live_encoder.norm")
    if config.rerank is not None:
        yield "reranker.norm.weight", (encoder.width,)
        yield "reranker.weight", (encoder.width,)
    if not config.shared_embedding:
        yield from _embedding(config, decoder, config.vocabulary_size, "decoder.embedding.")
    for number, reads in enumerate(config.cross_layers):
        yield from _decoder_layer(config, f"decoder.layers.{number}.", reads=reads)
    if decoder.blocks.relative_bias:
        yield "decoder.relative_bias.weight", (config.relative_buckets, decoder.heads)
    if decoder.blocks.final_norm:
        yield from _norm(decoder, "decoder.norm")
    if not config.tied_head:
        yield from _linear("head.linear", decoder.width, config.vocabulary_size, biased=config.head_bias)
    elif config.head_bias:
        yield "head.bias.weight", (config.vocabulary_size,)


def _embedding(config: ReaderConfig, stack: StackConfig, vocabulary: int, at: str) -> Shapes:
    yield f"{at}weight", (vocabulary, stack.width)
    if stack.blocks.learned_positions:
        yield f"{at}positions.weight", (config.positions, stack.width)
        yield f"{at}types.weight", (2, stack.width)
        yield from _norm(stack, f"{at}norm")


def _encoder(config: ReaderConfig, stack: StackConfig, layers: int, at: str) -> Shapes:
    if layers and stack.blocks.relative_bias:
        yield f"{at}relative_bias.weight", (config.relative_buckets, stack.heads)
    for number in range(layers):
        layer = f"{at}layers.{number}."
        yield from _attention(stack, f"{layer}attention.", stack.heads, stack.width)
        yield from _norm(stack, f"{layer}attention_norm")
        yield from _feed_forward(stack, layer)


def _decoder_layer(config: ReaderConfig, layer: str, *, reads: bool) -> Shapes:
    stack = config.decoder
    own, cross = config.kv_heads
    yield from _attention(stack, f"{layer}self_attention.", own, stack.width)
    yield from _norm(stack, f"{layer}self_attention_norm")
    if reads:
        yield from _attention(stack, f"{layer}cross_attention.", cross, config.context_width)
        yield from _norm(stack, f"{layer}cross_attention_norm")
    yield from _feed_forward(stack, layer)


def _attention(stack: StackConfig, at: str, kv_heads: int, read_width: int) -> Shapes:
    inner, shared, biased = stack.heads * stack.head_width, kv_heads * stack.head_width, stack.blocks.biased
    yield from _linear(f"{at}query", stack.width, inner, biased=biased)
    yield from _linear(f"{at}key", read_width, shared, biased=biased)
    yield from _linear(f"{at}value", read_width, shared, biased=biased)
    yield from _linear(f"{at}out", inner, stack.width, biased=biased)


def _feed_forward(stack: StackConfig, layer: str) -> Shapes:
    names = ("inner",) if stack.blocks.feed_forward_inputs == 1 else ("gate", "inner")
    for name in names:
        at = f"{layer}feed_forward.{name}"
        yield from _linear(at, stack.width, stack.feed_forward, biased=stack.blocks.biased)
    yield from _linear(
        f"{layer}feed_forward.out", stack.feed_forward, stack.width, biased=stack.blocks.biased
    )
    yield from _norm(stack, f"{layer}feed_forward_norm")


def _norm(stack: StackConfig, at: str) -> Shapes:
    yield f"{at}.weight", (stack.width,)
    if stack.blocks.norm_vectors == 2:
        yield f"{at}.bias", (stack.width,)


def _linear(at: str, inputs: int, outputs: int, *, biased: bool) -> Shapes:
    yield f"{at}.weight", (outputs, inputs)
    if biased:
        yield f"{at}.bias", (outputs,)


def compare(
    shapes: Mapping[str, Sequence[int]],
    tensors: Mapping[str, Array],
    where: str,
    remedy: str,
    source: str = "its config.json",
) -> None:
    """Require exactly the tensors named in `shapes`, each in its shape, which `source` calls for.

    Raises:
        CheckpointError: lists what is missing, superfluous or of another shape, and ends with `remedy`.
    """
    problems = [f"missing {name}" for name in shapes.keys() - tensors.keys()]
    problems += [f"unexpected {name}" for name in tensors.keys() - shapes.keys()]
    problems += [
        f"{name} is {list(tensors[name].shape)}, expected {list(shape)}"
        for name, shape in shapes.items()
        if name in tensors and tuple(tensors[name].shape) != tuple(shape)
    ]
    if problems:
        more = [f"and {len(problems) - 5} more"] if len(problems) > 5 else []
        shown = "; ".join(sorted(problems)[:5] + more)
        raise CheckpointError(f"{where} does not fit {source}: {shown}; {remedy}")


def scale_of(name: str, tensors: Mapping[str, Array], where: str) -> Array | None:
    """[rows], what the rows of a matrix of 8 bits are multiplied by; None of all other tensors.

    Raises:
        CheckpointError: scales that aren't those of a matrix.
    """
    tensor, scale = tensors[name], tensors.get(name + SCALE)
    if str(tensor.dtype).removeprefix("torch.") != "int8":
        return None
    if (
        scale is None
        or tensor.ndim != 2
        or tuple(scale.shape) != tuple(tensor.shape[:1])
        or "float" not in str(scale.dtype)
    ):
        raise CheckpointError(
            f"{where}: {name} is int8; expected a matrix, with floats that scale rows in {name}{SCALE}; "
            "download or save the reader again"
        )
    return scale


def refuse_broken(broken: Collection[str], where: str) -> None:
    """Refuse weights that aren't finite, by their names.

    Raises:
        CheckpointError: there are such.
    """
    if broken:
        raise CheckpointError(
            f"{where}: not all weights are finite numbers: {', '.join(sorted(broken)[:5])}; take an earlier "
            "checkpoint, or download the reader again"
        )


def require_decoder(names: Collection[str], where: str | Path) -> None:
    """Refuse an encoder alone.

    Raises:
        CheckpointError: these are the names of its parameters.
    """
    if "embedding.weight" in names and not any(name.startswith("decoder.") for name in names):
        raise CheckpointError(
            f"{where}: an encoder without a decoder, which makes vectors for search and reads "
            f"nothing; give a reader, such as {assets.READER}"
        )
