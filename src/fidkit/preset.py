"""Named points in the space of readers.

Sizes are T5 v1.1's. `PRESETS` (`fidkit.presets` for users) maps names to points.
"""

from __future__ import annotations

import difflib
from fractions import Fraction
from typing import Any

from fidkit.config import ReaderConfig, StackConfig
from fidkit.errors import UsageError


def _stack(layers: int, width: int, heads: int, feed_forward: int) -> StackConfig:
    return StackConfig(layers=layers, width=width, heads=heads, head_width=64, feed_forward=feed_forward)


SIZES = {
    "small": _stack(8, 512, 6, 1024),
    "base": _stack(12, 768, 12, 2048),
    "large": _stack(24, 1024, 16, 2816),
    "xl": _stack(24, 2048, 32, 5120),
    "xxl": _stack(24, 4096, 64, 10240),
}
# FiDO section 3.3: the decoder is two sizes larger, as far as T5 has sizes.
FIDO_PAIRS = [("small", "large"), ("base", "base"), ("base", "xl"), ("large", "xxl"), ("xl", "xxl")]
ALPHAS = {
    "twelfth": Fraction(1, 12),
    "eighth": Fraction(1, 8),
    "sixth": Fraction(1, 6),
    "quarter": Fraction(1, 4),
    "third": Fraction(1, 3),
    "half": Fraction(1, 2),
}
FIDO: dict[str, Any] = {"cross_attention_every": 6, "self_kv_heads": 1, "cross_kv_heads": 1}
# The question meets no passage before the decoder does, so it stands in the context once.
REMEMBERED: dict[str, Any] = {"live_layers": 0, "question_in_context": "once"}
# FiDO section 4.4 compares at equal decoder cost: 256 tokens / K = 6.
FID_LIGHT_VECTORS = 43
# GLIMMER reads on with 5 of 25 passages; half of the live layers score them.
GLIMMER_KEPT = 5

# Equal to the bundled vocabulary, so that a tiny preset is usable as it is.
TINY_VOCABULARY = 16384
TINY = StackConfig(layers=3, width=32, heads=4, head_width=8, feed_forward=64)
TINY_MEMORY = StackConfig(layers=5, width=40, heads=4, head_width=8, feed_forward=80)
TINY_DECODER = StackConfig(layers=4, width=48, heads=4, head_width=8, feed_forward=96)


def _pair(encoder: StackConfig, decoder: StackConfig, **knobs: Any) -> ReaderConfig:
    return ReaderConfig(
        encoder=encoder, decoder=decoder, shared_embedding=encoder.width == decoder.width, **knobs
    )


def live_layers(layers: int, alpha: Fraction) -> int:
    """The whole number of layers nearest to `alpha * layers`, at least 1 (ties go up)."""
    return max(1, int(alpha * layers + Fraction(1, 2)))


def _glimmer(config: ReaderConfig, keep: int = GLIMMER_KEPT) -> ReaderConfig:
    """The reader with its passages reranked after half of its live layers."""
    reranked: ReaderConfig = config.replace(rerank={"after": max(1, config.live // 2), "keep": keep})
    return reranked


def _all() -> dict[str, ReaderConfig]:
    table: dict[str, ReaderConfig] = {}
    for size, stack in SIZES.items():
        table[f"fid-{size}"] = _pair(stack, stack)
        table[f"fid-light-{size}"] = _pair(stack, stack, kept_vectors=FID_LIGHT_VECTORS)
        table[f"fid-lsa-{size}"] = _pair(stack, stack, cross_attention_every=6)
        table[f"memoryfid-{size}"] = _pair(stack, stack, **REMEMBERED)
        for name, alpha in ALPHAS.items():
            live = live_layers(stack.layers, alpha)
            table[f"lumen-{size}-{name}"] = _pair(stack, stack, live_layers=live)
        table[f"lumen-{size}"] = lumen = table[f"lumen-{size}-third"]
        table[f"glimmer-{size}"] = _glimmer(lumen)
    # LUMEN's memory shape: as many base layers for the memory as the large encoder has.
    deep = SIZES["base"].replace(layers=SIZES["large"].layers)
    table["lumen-base-deep"] = table["lumen-base"].replace(memory_encoder=deep)
    for encoder, decoder in FIDO_PAIRS:
        fido = _pair(SIZES[encoder], SIZES[decoder], **FIDO)
        table[f"fido-{encoder}-{decoder}"] = fido
        live = live_layers(fido.encoder.layers, ALPHAS["third"])
        table[f"lumen-fido-{encoder}-{decoder}"] = fido.replace(live_layers=live)
        table[f"memoryfid-fido-{encoder}-{decoder}"] = fido.replace(**REMEMBERED)

    def tiny(decoder: StackConfig = TINY, **knobs: Any) -> ReaderConfig:
        return _pair(TINY, decoder, vocabulary_size=TINY_VOCABULARY, **knobs)

    small_fido = {"cross_attention_every": 2, "self_kv_heads": 1, "cross_kv_heads": 1}
    table |= {
        "tiny-fid": tiny(),
        "tiny-fid-light": tiny(kept_vectors=8),
        "tiny-fid-lsa": tiny(cross_attention_every=3),
        "tiny-fido": tiny(TINY_DECODER, **small_fido),
        "tiny-memoryfid": tiny(**REMEMBERED),
        "tiny-lumen": tiny(live_layers=1),
        "tiny-lumen-deep": tiny(live_layers=1, memory_encoder=TINY_MEMORY),
        "tiny-glimmer": _glimmer(tiny(live_layers=2), keep=2),
        "tiny-lumen-fido": tiny(TINY_DECODER, live_layers=1, **small_fido),
    }
    # Small enough to train from random weights on a laptop, by recipes/pocket.toml.
    table["pocket-fid"] = ReaderConfig(
        encoder=StackConfig(layers=4, width=256, heads=8, head_width=32, feed_forward=704),
        decoder=StackConfig(layers=2, width=256, heads=4, head_width=64, feed_forward=704),
        vocabulary_size=TINY_VOCABULARY,
        tied_head=True,
        question_tokens=48,
        passage_tokens=208,
    )
    return table


PRESETS = _all()


def named(name: str) -> ReaderConfig:
    """The configuration called `name`.

    Raises:
        UsageError: no such preset; the message offers the nearest names.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=3) or sorted(PRESETS)[:3]
        raise UsageError(f"no preset {name!r}; did you mean {', '.join(near)}? `fidkit.presets` names all")
    return PRESETS[name]
