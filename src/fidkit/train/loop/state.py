"""The optimiser's state by parameter name, in PyTorch's distributed checkpoints.

Each process writes its part; any number of processes reads them back, whole or sharded.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from fidkit.paths import is_plain_name

# A process alone is no mistake.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable", category=UserWarning)

OPTIMISER, AUXILIARY = "optimiser/", "auxiliary/"
Names = Mapping[Tensor, str]

_METADATA = "torch.distributed.checkpoint.metadata"
_HARMLESS = {
    ("pathlib", "PosixPath"),
    ("pathlib", "PurePosixPath"),
    ("pathlib", "Path"),
    ("collections", "OrderedDict"),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    *((_METADATA, name) for name in (
        "BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta",
        "TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
    )),
}  # fmt: skip


class _Unpickler(pickle.Unpickler):
    """Builds a checkpoint's table of contents and nothing else: a pickle may name any function."""

    def find_class(self, module: str, name: str) -> Any:
        kind = getattr(torch, name, None) if module == "torch" else None
        if (module, name) in _HARMLESS or isinstance(kind, torch.dtype):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a checkpoint")


class _Reader(FileSystemReader):
    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with Path(self.path, ".metadata").open("rb") as file:
            metadata = _Unpickler(file).load()
        for place in (metadata.storage_data or {}).values():
            if not is_plain_name(getattr(place, "relative_path", None)):
                raise ValueError("it names a file outside its directory")
        metadata.storage_meta.load_id = self.load_id
        return metadata


def write(
    tensors: Mapping[str, Tensor], directory: Path, group: distributed.ProcessGroup | None = None
) -> None:
    """Write tensors, each process its part; all processes of `group` call this.

    Raises:
        CheckpointException, OSError, RuntimeError: they can't be written, in whichever process.
    """
    writer = FileSystemWriter(directory, overwrite=True)
    save(dict(tensors), storage_writer=writer, process_group=group, no_dist=group is None)


def read(
    directory: Path, parameters: Mapping[str, Tensor], group: distributed.ProcessGroup | None
) -> dict[str, Tensor]:
    """All tensors of a directory; each process reads what it needs.

    Args:
        directory: as `write` left it.
        parameters: by name. What belongs to a sharded parameter and has its shape is sharded as it is.
        group: of the processes that read; None for a process alone.

    Raises:
        OSError, ValueError, RuntimeError, pickle.UnpicklingError: no checkpoint, or a damaged one.
    """
    reader = _Reader(directory)
    kept = reader.read_metadata().state_dict_metadata
    tensors = {
        key: _room(entry, parameters.get(key.split("/")[1]))
        for key, entry in kept.items()
        if isinstance(entry, TensorStorageMetadata)
    }
    load(tensors, storage_reader=reader, process_group=group, no_dist=group is None)
    return tensors


def _room(entry: TensorStorageMetadata, parameter: Tensor | None) -> Tensor:
    dtype = entry.properties.dtype
    if isinstance(parameter, DTensor) and parameter.shape == entry.size:
        return torch.empty_like(parameter, dtype=dtype, requires_grad=False)
    return torch.empty(entry.size, dtype=dtype)


def names_of(optimiser: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> list[str]:
    """Names of all parameters of an optimiser, in its order."""
    names = {id(p): name for name, p in parameters.items()}
    return [names[id(p)] for group in optimiser.param_groups for p in group["params"]]


def take_apart(
    optimiser: torch.optim.Optimizer, parameters: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimiser's state: tensors by `optimiser/PARAMETER/KEY`, and what else there is by the same."""
    tensors: dict[str, Tensor] = {}
    others: dict[str, Any] = {}
    for key, value in _entries(optimiser, parameters):
        if isinstance(value, Tensor):
            tensors[key] = value
        else:
            others[key] = value
    return tensors, others


def put_together(
    optimiser: torch.optim.Optimizer,
    parameters: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    others: Mapping[str, Any],
) -> None:
    """Give the optimiser the state that `take_apart` took.

    Raises:
        ValueError: the state belongs to other parameters.
    """
    by_name: dict[str, dict[str, Any]] = {}
    for key, value in {**tensors, **others}.items():
        if key.startswith(OPTIMISER):
            name, entry = key.removeprefix(OPTIMISER).split("/")
            by_name.setdefault(name, {})[entry] = value
    names = names_of(optimiser, parameters)
    strange = sorted(by_name.keys() - set(names))
    if strange:
        raise ValueError(f"optimiser state of unknown parameters: {', '.join(strange[:5])}")
    state = {number: by_name[name] for number, name in enumerate(names) if name in by_name}
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _entries(optimiser: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> Iterator[tuple[str, Any]]:
    names = {id(p): name for name, p in parameters.items()}
    for parameter, entries in optimiser.state.items():
        for entry, value in entries.items():
            yield f"{OPTIMISER}{names[id(parameter)]}/{entry}", value
