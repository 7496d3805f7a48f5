"""Readers made ready by name: without PyTorch where that suits, else with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fidkit import native
from fidkit.checkpoint.files import locate, open_directory
from fidkit.devices import choose_device, has_torch, on_cpu
from fidkit.engine.cpu.reader import NativeReader, suits
from fidkit.engine.fingerprint import memory_fingerprint
from fidkit.engine.precision import Precision, check_precision
from fidkit.engine.ready import Ready
from fidkit.engine.recall import memory_of
from fidkit.errors import WITH_TORCH, FidkitError, UsageError
from fidkit.passages import Passages
from fidkit.passages.opening import Source

if TYPE_CHECKING:
    import torch

    from fidkit.memory import MemoryStore
    from fidkit.reader import Reader


def made_ready(
    given: Reader | Source, corpus: Passages | None, device: str | torch.device, precision: Precision
) -> tuple[Ready, MemoryStore | None]:
    """A reader made ready, and its memory of a corpus, if it is stored there.

    Args:
        given: a reader, which is left as it is, or what `Reader.from_pretrained` takes.
        corpus: whose memory is asked for; None leaves it out.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        precision: what is computed with.

    Raises:
        UsageError: no such device or precision, or no reader.
        CheckpointError: no such reader, or a damaged one.
        FidkitError: it needs PyTorch, which isn't installed.
        MemoryStoreError: the memory that is stored is of another reader.
    """
    check_precision(precision)
    why = "a Reader is one of PyTorch's modules"
    where = None
    if isinstance(given, str | os.PathLike):
        where = locate(given if isinstance(given, str) else Path(given))
        found = _native(where, str(given), device, precision)
        if isinstance(found, NativeReader):
            memory = None
            if corpus is not None:
                memory = memory_of(corpus, found.config, found.memory_fingerprint, str(given))
            return found, memory
        why = found
    return _with_torch(given, where, corpus, device, precision, why)


def _native(where: Path, name: str, device: str | torch.device, precision: Precision) -> NativeReader | str:
    """A reader that needs no PyTorch, or why it needs it."""
    if precision == "bfloat16":
        return "bfloat16 is computed with PyTorch"
    if not on_cpu(device):
        return f"device {device} is used through PyTorch"
    directory = open_directory(where)
    if not suits(directory.config):
        return f"{name} has layers that no kernel suits"
    kernels = native.kernels()
    if kernels is None:
        return "there are no native kernels here (`fidkit doctor` says why)"
    if kernels.has_bfloat16 and precision in ("auto", "int8") and not directory.is_rounded and has_torch():
        return "bfloat16 is computed with PyTorch"
    return NativeReader.from_pretrained(directory, kernels, precision)


def _with_torch(
    given: Reader | Source,
    where: Path | None,
    corpus: Passages | None,
    device: str | torch.device,
    precision: Precision,
    why: str,
) -> tuple[Ready, MemoryStore | None]:
    """A runner of PyTorch's reader, which is `given` or in the directory `where`; `why` it is needed."""
    try:
        from fidkit.engine.runner import Runner, loading_type, moved
        from fidkit.reader import Reader
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise FidkitError(f"{why}, and this needs PyTorch, which is not installed; {WITH_TORCH}") from error

    chosen = choose_device(device)
    name = "READER"
    if isinstance(given, Reader):
        made = given
        # Whoever put it on a GPU chose which.
        if not (device == "auto" and given.embedding.weight.is_cuda):
            made = moved(given, chosen)
    elif where is not None:
        name = str(given)
        made = Reader.from_pretrained(where, loading_type(precision, chosen)).to(chosen)
    else:
        raise UsageError(
            f"the reader is {given!r}; expected a Reader, a directory, or a name such as 'pocket'"
        )
    memory = None
    if corpus is not None:
        memory = memory_of(corpus, made.config, lambda: memory_fingerprint(made), name)
    return Runner(made, precision, own=made is not given), memory
