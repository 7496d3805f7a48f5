"""Tables of docs/lumen.md."""

from typing import Any

from render import lumen
from render.summaries import NOTHING


def judged(codec: str, error: float, **more: Any) -> dict[str, Any]:
    score = {"n": 500, "em": 37.0, "f1": 48.0, "log_likelihood": -8.5}
    return {
        "variant": f"codec-{codec}", "seed": 0, "steps": 0, "set": [], "decides": ["squad"], "squad": score,
        "codec": codec, "bytes_a_passage": 4742.4, "bytes_a_token": 48.3, "error": error, "git": "abc",
        "hardware": {"cpu": "EPYC"}, "command": "python benchmarks/study.py codecs", **more,
    }  # fmt: skip


def test_codecs_are_those_of_the_study_in_their_order() -> None:
    others = [{"variant": "pocket-by-words", "seed": 0, "steps": 0, "set": []}]
    lines = lumen.codecs([judged("pq", 0.4), judged("bf16", 0.5), *others, judged("bf16", 0.0017)])
    heads, _, *rows = lines.splitlines()[:4]
    assert heads.startswith("| codec | bytes a passage | a token | error | squad: EM / F1")
    assert rows == [
        "| `bf16` | 4,742 | 48.3 | 0.17% | 37.0 / 48.0 / -8.50 |",
        "| `pq` | 4,742 | 48.3 | 40.00% | 37.0 / 48.0 / -8.50 |",
    ]
    assert "500 of squad" in lines
    assert lumen.codecs(others) == NOTHING
