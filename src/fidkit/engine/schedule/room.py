"""Whether answers have room to be written, asked before any of it is allocated.

A system out of memory often kills instead of refusing: what is too much has to be known beforehand.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fidkit import arrays
from fidkit.config import ReaderConfig
from fidkit.context import Context
from fidkit.engine.generation.decoding import Decoding
from fidkit.errors import UsageError
from fidkit.wording import counted

if TYPE_CHECKING:
    import torch

_MEMORY = Path("/proc/meminfo")
_GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
# Float32 values a logit that are alive in one step: its log-probability, what may follow, sums over beams,
# and what sorting them needs. Measured: between 6 and 8.
_LOGIT_COPIES = 8
# Tokens (int64) and log-probabilities (float32), of beams that run, that are extended (twice as many) and
# that are finished, and what becomes of them.
_BYTES_OF_WRITTEN = 12 * 8
# Looking costs 50 µs, which is much beside a step of a small reader.
_SMALL = 250_000_000


def available_bytes(device: torch.device | None = None) -> int:
    """Memory that is free on a GPU, or where there is none, less a reserve."""
    from fidkit.cost.hardware import RESERVED_SHARE  # a package that answers seldom need

    free = _free_memory() if device is None or device.type != "cuda" else _free_on_gpu(device)
    return int(free * (1 - RESERVED_SHARE))


def check_weights(needed: int, where: Path) -> None:
    """Refuse weights that don't fit into memory as they are laid out for the kernels.

    Args:
        needed: bytes, besides those that stay where they are stored.
        where: the reader's directory.

    Raises:
        UsageError: says how much is needed.
    """
    if needed > _SMALL and needed > available_bytes():
        raise no_weights_room(needed, where)


def no_weights_room(needed: int, where: Path) -> UsageError:
    """What is said where a reader's weights have no room; of 0 bytes, that its files can't even be mapped."""
    what = f"for its weights, which need {needed / 1e6:,.0f} MB besides its files" if needed else "to map it"
    return UsageError(
        f"{where}: there is no memory left {what}; close other programs, raise the limit of this process "
        "(ulimit -v), or take a smaller reader"
    )


def check_room(config: ReaderConfig, context: Context, decoding: Decoding) -> None:
    """Refuse to write answers that don't fit into memory.

    Args:
        config: of the reader.
        context: of B questions.
        decoding: rows and length of answers.

    Raises:
        UsageError: by how much they don't fit, and the most that do.
    """
    questions, M, _ = context.states_BMD.shape
    size, stack = context.states_BMD.itemsize, config.decoder
    self_heads, cross_heads = config.kv_heads
    of_question = 2 * sum(config.cross_layers) * cross_heads * M * stack.head_width * size
    of_token = 2 * stack.layers * self_heads * stack.head_width * size + _BYTES_OF_WRITTEN
    of_logits = _LOGIT_COPIES * 4 * config.vocabulary_size
    needed = questions * (of_question + decoding.rows * (decoding.max_tokens * of_token + of_logits))
    if needed <= _SMALL:
        return
    available = available_bytes(arrays.device_of(context.states_BMD))
    if needed <= available:
        return
    left = available // questions - of_question
    rows = left // (decoding.max_tokens * of_token + of_logits)
    tokens = (left - of_logits) // of_token
    raise UsageError(
        f"{counted(questions, 'question')} with {counted(decoding.rows, 'answer')} of "
        f"{counted(decoding.max_tokens, 'token')} side by side need {needed / 1e9:,.1f} GB, "
        f"{(needed - available) / 1e9:,.1f} GB more than the {available / 1e9:,.1f} GB that are free; "
        + _remedy(questions, rows, tokens)
    )


def _remedy(questions: int, rows: int, tokens: int) -> str:
    if rows > 0:
        return f"the most beams or samples that fit are {rows:,} a question"
    if tokens > 0:
        return f"the longest answers that fit have {counted(tokens, 'token')}, written one by one"
    return "ask fewer questions at a time" if questions > 1 else "read fewer passages"


def _free_on_gpu(device: torch.device) -> int:
    """What the driver has, and what PyTorch holds without using it."""
    import torch

    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def _free_memory() -> int:
    try:
        lines = dict(line.split(":", 1) for line in _MEMORY.read_text(encoding="utf-8").splitlines())
        free = 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):  # not Linux
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(free, int(_GROUP_LIMIT.read_text(encoding="utf-8")))
    except (OSError, ValueError):  # no limit
        return free
