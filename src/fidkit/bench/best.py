"""Which peer is the fastest at each part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fidkit.bench.table import Record, milliseconds

PARTS = {"encoder": "encoder_ms", "decoder": "decoder_ms", "whole": "total_ms"}


def fastest_peers(rows: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """For each part the fastest peer by its median, and how many times as fast each of our own is.

    Args:
        rows: of one run, with a peer among them.
    """
    return {part: _fastest(rows, stage) for part, stage in PARTS.items()}


def make_best_notes(best: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The same in words, a line a part."""
    for part, found in best.items():
        ratios = ", ".join(
            f"{name} {ratio:.2f} x as fast" for name, ratio in found["faster"].items() if ratio is not None
        )
        error = found["encoder_error"]
        off = f", encoder off by {error:.2g}" if error is not None else ""
        yield f"fastest peer, {part}: {found['subject']}, {milliseconds(found['ms'])} ms{off}; {ratios}"


def _fastest(rows: Sequence[Record], stage: str) -> dict[str, Any]:
    peers = [row for row in rows if row["preset"] is None]
    best = min(peers, key=lambda row: float(row[stage]["median"]))
    return {
        "subject": best["subject"],
        "ms": best[stage]["median"],
        "encoder_error": best["encoder_error"],
        "faster": {
            row["subject"]: row["faster_than"][best["subject"]][stage] for row in rows if row["preset"]
        },
    }
