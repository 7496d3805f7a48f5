"""What answers are made with: a reader made ready to read and to write fast."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from fidkit.arrays import Array
from fidkit.calibration import Calibration
from fidkit.config import ReaderConfig
from fidkit.context import Batch, Context, Sight
from fidkit.tokens import Tokenizer


class Ready(Protocol):
    """A `fidkit.engine.runner.Runner`, or a `fidkit.engine.cpu.reader.NativeReader`, which needs no PyTorch.

    Attributes:
        device: where batches go; None of NumPy's arrays.
        takes_turns: whether it may answer other questions while answers pause between steps.
    """

    @property
    def config(self) -> ReaderConfig: ...

    @property
    def tokenizer(self) -> Tokenizer | None: ...

    @property
    def calibration(self) -> Calibration | None: ...

    @property
    def device(self) -> Any: ...

    @property
    def computes(self) -> str:
        """What it computes with: `float32`, `bfloat16` or `int8`."""
        ...

    @property
    def memory_type(self) -> Any:
        """What memory is wanted in: a type of tensors, or the word `float32` for NumPy's arrays."""
        ...

    @property
    def takes_turns(self) -> bool: ...

    def at_work(self) -> AbstractContextManager[object]:
        """All that is called below is called within it."""
        ...

    def encode_passages(self, ids_RP: Array, lengths_R: Array) -> Array:
        """Memory [X, memory width] of passages, one after the other."""
        ...

    def encode_questions(self, batch: Batch) -> Array:
        """Question states [X, D] at the depth where they meet the passages."""
        ...

    def read(self, batch: Batch) -> Context:
        """Encode all passages with their question and fuse them."""
        ...

    def read_memory(self, batch: Batch, memory_XD: Array, question_XD: Array | None = None) -> Context:
        """`read` with the passages' memory at hand."""
        ...

    def start(self, context: Context, max_tokens: int, beams: int = 1) -> Any:
        """Make ready for `max_tokens` steps of `beams` rows for each question of the context."""
        ...

    def step(self, ids_N: Array, cache: Any) -> Array:
        """Logits [N, V] (float32) of the token after `ids_N`; the first token is the padding token."""
        ...

    def look(self, ids_BT: Array, context: Context) -> Sight:
        """What it makes of answers as it wrote them, and where it looks meanwhile."""
        ...
