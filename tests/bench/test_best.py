"""The fastest peer of each part."""

from fidkit.bench.best import fastest_peers, make_best_notes


def row(name: str, preset: str | None, encoder: float, decoder: float, error: float | None = None) -> dict:
    times = {"encoder_ms": encoder, "decoder_ms": decoder, "total_ms": encoder + decoder}
    return {
        "subject": name,
        "preset": preset,
        "encoder_error": error,
        "faster_than": {
            other: dict.fromkeys(times, float(number)) for number, other in enumerate(("a", "b", "c"))
        },
        **{stage: {"median": ms} for stage, ms in times.items()},
    }


ROWS = [
    row("ours", "tiny-fid", 1, 1),
    row("a", None, 10, 300, 0.015),
    row("b", None, 20, 200),
    row("c", None, 90, 100, 0.5),
]


def test_each_part_has_its_own_peer() -> None:
    best = fastest_peers(ROWS)
    assert {part: found["subject"] for part, found in best.items()} == {
        "encoder": "a", "decoder": "c", "whole": "c",
    }  # fmt: skip
    assert best["encoder"] == {"subject": "a", "ms": 10, "encoder_error": 0.015, "faster": {"ours": 0.0}}
    assert best["whole"]["faster"] == {"ours": 2.0}


def test_a_line_a_part() -> None:
    assert list(make_best_notes(fastest_peers(ROWS[:3]))) == [
        "fastest peer, encoder: a, 10.0 ms, encoder off by 0.015; ours 0.00 x as fast",
        "fastest peer, decoder: b, 200 ms; ours 1.00 x as fast",
        "fastest peer, whole: b, 220 ms; ours 1.00 x as fast",
    ]
