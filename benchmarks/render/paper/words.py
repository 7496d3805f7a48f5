"""The paper's systems in words, for tables and plots."""

from __future__ import annotations

from paper.sizes import EVERY_PREFIX, SIZES


def label(system: str, size: str) -> str:
    """A system in words."""
    larger = SIZES[size].large_name
    words = {
        "fid": "FiD",
        "lsa": "FiD + LSA",
        "mq": "FiD + LSA + MQ (FiDO, equal stacks)",
        "mq-beam": "FiDO, equal stacks, beams",
        "mq-beam-16": "FiDO, equal stacks, 16 beams",
        "asym": f"FiDO, {larger} decoder",
        "asym-no-lsa": f"FiDO, {larger} decoder, no LSA",
        "asym-no-mq": f"FiDO, {larger} decoder, no MQ",
        "light": "FiD-Light",
        "hf": "FiD on transformers",
    }
    if system.startswith(EVERY_PREFIX):
        return f"FiDO, {larger} decoder, K = {system.removeprefix(EVERY_PREFIX)}"
    return words.get(system, system)
