"""What a conversion did to the weights."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Notes:
    """What a person should know about a conversion; all empty where nothing was lost or changed.

    Attributes:
        dropped: tensors that the result has no place for.
        merged: tensors whose key or value heads became fewer, group by group.
        copied: tensors that are copies of another one of the result.
        remarks: whatever else to know, a sentence each.
    """

    dropped: tuple[str, ...] = ()
    merged: tuple[str, ...] = ()
    copied: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def __add__(self, other: Notes) -> Notes:
        return Notes(
            self.dropped + other.dropped,
            self.merged + other.merged,
            self.copied + other.copied,
            self.remarks + other.remarks,
        )

    def lines(self) -> list[str]:
        """The notes as lines for a person."""
        said = [f"dropped {name}" for name in self.dropped]
        if self.merged:
            said.append(f"merged the heads of {len(self.merged)} key and value matrices")
        if self.copied:
            said.append(f"copied {len(self.copied)} tensors of the encoder")
        return [*said, *self.remarks]
