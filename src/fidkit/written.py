"""How far a decoder's cache is written, whatever it is made of."""

from __future__ import annotations

import math

from fidkit.errors import FidkitError, UsageError


class Written:
    """Positions written one after the other, into a room that was made once.

    Attributes:
        length: positions written so far.
        max_tokens: positions there is room for.
    """

    def __init__(self, max_tokens: int) -> None:
        self.length, self.max_tokens = 0, max_tokens

    def next_position(self) -> int:
        """The position that the step about to come writes.

        Raises:
            UsageError: all positions are written.
        """
        if self.length >= self.max_tokens:
            raise UsageError(
                f"the decoder's cache was made for {self.max_tokens} tokens and all are written; "
                f"start it with max_tokens={self.length + 1} or more"
            )
        return self.length


def no_room(shape: tuple[int, ...], value_bytes: int) -> FidkitError:
    """Of two self-attention caches [layers, rows, heads, tokens, width] that don't fit into memory."""
    _, rows, _, tokens, _ = shape
    gigabytes = 2 * math.prod(shape) * value_bytes / 1e9
    return FidkitError(
        f"no room for the self-attention caches of {rows} rows (questions x beams) with {tokens} tokens "
        f"each, {gigabytes:.1f} GB; take fewer questions at a time, fewer beams or fewer tokens"
    )
