"""Where training computes no gradient, because nothing that is trained stands before."""

from __future__ import annotations

from fidkit.config import ReaderConfig, StackConfig


def embedding_is_fixed(config: ReaderConfig, stack: StackConfig) -> bool:
    """Whether nothing of a stack's embedding is trained."""
    return "embedding" in config.frozen and not stack.blocks.kept_by_embedding(stack)


def question_is_fixed(config: ReaderConfig) -> bool:
    """Whether nothing that is trained makes question states."""
    return (
        "question" in config.frozen if config.question_layers else embedding_is_fixed(config, config.encoder)
    )


def memory_is_fixed(config: ReaderConfig) -> bool:
    """Whether nothing that is trained makes the memory, which a projection may read."""
    stack = config.memory_stack
    return "memory" in config.frozen if config.memory_layers else embedding_is_fixed(config, stack)


def live_input_is_fixed(config: ReaderConfig) -> bool:
    """Whether nothing that is trained makes the rows of questions and passages that live layers read."""
    return question_is_fixed(config) and memory_is_fixed(config) and not config.projects_memory


def context_is_fixed(config: ReaderConfig) -> bool:
    """Whether nothing that is trained makes the context."""
    words = config.token_skip and "embedding" not in config.frozen
    trained = config.live or config.encoder.blocks.final_norm or words
    return not trained and live_input_is_fixed(config)
