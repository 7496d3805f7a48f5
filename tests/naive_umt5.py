"""umT5's layers with plain matrices: the oracle of the family `umt5`."""

from __future__ import annotations

from naive_t5 import NaiveT5v11


class NaiveUmt5(NaiveT5v11):
    """T5 v1.1 with a table of biases in each layer."""

    def _table(self, stack: str, layer: str) -> str:
        return f"{layer}.relative_bias.weight"
