"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """A number and what it counts: `1 file`, `2,000 files`.

    Args:
        number: how many there are.
        one: what a single one is called, with its verb where there is one: `file is`.
        many: what several are called; with an s behind `one` by default.
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
