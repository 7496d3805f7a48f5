"""Which combinations of knobs can be built; what can't is said with what could."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fidkit.config.formats import TWO_PARTS

if TYPE_CHECKING:
    from fidkit.config.reader import ReaderConfig


def require_possible(config: ReaderConfig) -> None:
    """Refuse a reader that can't be built.

    Raises:
        ValueError: names the knobs, and what to choose instead.
    """
    _check_attention(config)
    _check_layers(config)
    _check_tables(config)
    _check_vocabularies(config)
    _check_positions(config)
    _check_copying(config)


def _check_attention(config: ReaderConfig) -> None:
    if config.relative_max_distance <= config.relative_buckets // 2:
        raise ValueError(
            f"relative_max_distance is {config.relative_max_distance}, but {config.relative_buckets // 2} of "
            f"the {config.relative_buckets} relative_buckets have a distance each; choose "
            f"{config.relative_buckets // 2 + 1} or more"
        )
    for name in ("self_kv_heads", "cross_kv_heads"):
        if config.decoder.heads % getattr(config, name):
            heads = config.decoder.heads
            raise ValueError(
                f"{name} is {getattr(config, name)} but must divide the decoder's {heads} heads; "
                f"choose one of {[n for n in range(1, heads + 1) if heads % n == 0]}"
            )


def _check_layers(config: ReaderConfig) -> None:
    if config.live > config.encoder.layers:
        raise ValueError(
            f"live_layers is {config.live} but the encoder has {config.encoder.layers} layers; "
            f"choose 0 to {config.encoder.layers}"
        )
    if config.rerank and not config.live:
        raise ValueError("rerank needs live layers to score passages with; choose live_layers from 1")
    if config.rerank and config.rerank.after > config.live:
        raise ValueError(
            f"rerank.after is {config.rerank.after}, more than the live layers ({config.live}); "
            f"choose 1 to {config.live}"
        )
    if config.cross_attention_every > config.decoder.layers:
        raise ValueError(
            f"cross_attention_every is {config.cross_attention_every} but the decoder has "
            f"{config.decoder.layers} layers, so no layer would read the passages; "
            f"choose 1 to {config.decoder.layers}"
        )


def _check_tables(config: ReaderConfig) -> None:
    if config.shared_embedding and config.encoder.width != config.decoder.width:
        raise ValueError(
            f"shared_embedding needs equal widths, but the encoder has {config.encoder.width} and "
            f"the decoder {config.decoder.width}; set shared_embedding to false"
        )
    kinds = config.encoder.blocks.embedding, config.decoder.blocks.embedding
    if config.shared_embedding and kinds[1] not in ("tokens", kinds[0]):
        raise ValueError(
            f"shared_embedding needs embeddings of one kind, but the encoder is {config.encoder.family} "
            f"and the decoder {config.decoder.family}; set shared_embedding to false"
        )


def _check_vocabularies(config: ReaderConfig) -> None:
    for name in ("pad_token", "end_token", "start_token", "question_end_token"):
        if (getattr(config, name) or 0) >= config.vocabulary_size:
            raise ValueError(
                f"{name} is {getattr(config, name)}, but vocabulary_size is {config.vocabulary_size}; choose "
                "one below it"
            )
    if config.title_end_token is not None and "".join(config.passage_format.split()) != TWO_PARTS:
        raise ValueError(
            f"passage_format is {config.passage_format!r}, but title_end_token stands between title and "
            f"text; write {TWO_PARTS!r}, or leave title_end_token out"
        )
    size = config.memory_vocabulary_size
    if size is None:
        if config.memory_end_token is not None:
            raise ValueError("memory_end_token needs memory_vocabulary_size; give both or neither")
        return
    if config.memory_encoder is None:
        raise ValueError("memory_vocabulary_size needs a memory_encoder, whose vocabulary it is; give both")
    ends = (("pad_token", config.pad_token), ("end token", config.passage_end_token))
    for name, token in (*ends, ("title_end_token", config.title_end_token or 0)):
        if token >= size:
            raise ValueError(
                f"the passages' {name} is {token}, but memory_vocabulary_size is {size}; choose one below it"
            )


def _check_positions(config: ReaderConfig) -> None:
    if not any(stack.blocks.learned_positions for stack in (config.encoder, config.memory_stack)):
        return
    if config.encoder.blocks.learned_positions and config.question_tokens > config.passage_position > 0:
        raise ValueError(
            f"question_tokens is {config.question_tokens}, but passages begin at passage_position "
            f"{config.passage_position}; choose at most that many, or 0 as passage_position"
        )
    if config.passage_position + config.passage_tokens > config.positions:
        raise ValueError(
            f"{config.passage_tokens} passage_tokens from passage_position {config.passage_position} on need "
            f"{config.passage_position + config.passage_tokens} positions, but there are "
            f"{config.positions}; choose at most {config.positions - config.passage_position} "
            "passage_tokens"
        )


def _check_copying(config: ReaderConfig) -> None:
    if config.standardised_embedding and not config.shared_embedding:
        raise ValueError(
            "standardised_embedding is of a table that both stacks share; set shared_embedding too"
        )
    if config.standardised_embedding and config.decoder.blocks.embedding != "tokens":
        raise ValueError(
            "standardised_embedding is for decoders whose words have no positions, but "
            f"{config.decoder.family} has them; choose another family for the decoder"
        )
    if config.extractive and not config.token_skip:
        raise ValueError(
            "extractive needs token_skip, which keeps the passages' tokens at hand; set both or none"
        )
    if config.token_skip and config.memory_vocabulary_size is not None:
        raise ValueError(
            "token_skip needs passages in the decoder's own vocabulary; leave memory_vocabulary_size out"
        )
