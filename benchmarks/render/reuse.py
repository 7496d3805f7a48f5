"""The part of docs/reproduce.md that sets LUMEN's memory beside what language models keep of a passage.

What others measured is typed in here and nowhere else. What a token takes follows from the shape of each
model, as its authors publish it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fidkit.preset import PRESETS
from fidkit.records import bytes_per_token
from render.lumen import FULL_TOKENS, WIKIPEDIA_PASSAGES
from render.summaries import NONE, line, rule

_BFLOAT16 = 2


@dataclass(frozen=True)
class _Decoder:
    """A language model, as far as its cache goes."""

    layers: int
    kv_heads: int
    width: int

    @property
    def bytes_a_token(self) -> int:
        """Keys and values of all layers, in bfloat16."""
        return 2 * self.layers * self.kv_heads * self.width * _BFLOAT16


_MODELS = {
    "Mistral-7B": _Decoder(32, 8, 128),
    "Yi-34B": _Decoder(60, 8, 128),
    "Llama-2-70B": _Decoder(80, 8, 128),
    "Llama-3-8B": _Decoder(32, 8, 128),
}
_CACHEBLEND = (
    "first token 2.2 to 3.3 times as soon, 2.8 to 5 times as many questions a second",
    "as good, by their account",
    "CacheBlend, arXiv 2405.16444 (in LMCache)",
)
_BLOCK = (
    "first token of 32,000 tokens after 45 ms, 98.7 % less than without",
    "68.4 beside 67.9, mean of four sets, after tuning",
    "Block-Attention, arXiv 2409.15355",
)
_REPORTED = (
    *((name, _CACHEBLEND) for name in ("Mistral-7B", "Yi-34B", "Llama-2-70B")),
    ("Llama-3-8B", _BLOCK),
)
_VQ_BYTES = 512  # of width 4,096: 256 codes of two bytes
_HEADING = "### Beside LUMEN: what language models keep of a passage"
_TEXT = (
    "LUMEN keeps one vector a token, which is what its first layers leave. Who serves a language model can "
    "keep its keys and values of a passage instead, of every layer, and compute anew only what hangs on the "
    "rest of the prompt. Both trade disk for time. What is kept of a token follows from the models' shapes; "
    "what it saves, and what it costs in quality, is as the sources have it, each beside its own reader "
    "without reuse. No source measures both kinds on one test, so that which reader is better stays open."
)


def part(times: Sequence[dict[str, Any]]) -> str:
    """The section.

    Args:
        times: rows of `fidkit bench` with LUMEN and FiD.
    """
    lines = [
        line("reader", "kept of a token, bytes", "of DPR's Wikipedia, TB", "what reuse saves", "quality",
             "source"),
        rule(6),
        *(_line(name, _MODELS[name].bytes_a_token, *said) for name, said in _REPORTED),
        _line("T5 XXL, LUMEN", _lumen("xxl"), NONE, NONE, "LUMEN, arXiv 2301.10448"),
        _line(
            "T5 XXL, LUMEN with codes", _VQ_BYTES, NONE, "72.42 beside 72.66, mean of KILT's sets",
            "MEMORY-VQ, arXiv 2308.14903",
        ),
        _line("T5 base, LUMEN(1/3) and FiDO", _lumen("base"), _saved(times), NONE, "docs/lumen.md, here"),
    ]  # fmt: skip
    return "\n".join([_HEADING, "", _TEXT, "", *lines])


def _line(reader: str, kept: int, saves: str, quality: str, source: str) -> str:
    terabytes = kept * WIKIPEDIA_PASSAGES * FULL_TOKENS / 1e12
    return line(reader, f"{kept:,}", f"{terabytes:,.0f}", saves, quality, source)


def _lumen(size: str) -> int:
    return bytes_per_token(PRESETS[f"lumen-{size}"].memory_width, "bf16")


def _saved(times: Sequence[dict[str, Any]]) -> str:
    """How much faster a whole question is, of the newest run of each reader in float32."""
    newest = {row["subject"]: row["total_ms"]["median"] for row in times if row["dtype"] == "float32"}
    fid, lumen = newest.get("fid-base"), newest.get("lumen-fido-base-base")
    return f"a question of 40 passages {fid / lumen:.1f} times as fast as FiD's" if fid and lumen else NONE
