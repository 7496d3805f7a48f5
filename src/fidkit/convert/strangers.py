"""What a file or folder is that holds no weights a reader can be made of, in a sentence."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fidkit.errors import CheckpointError

_HEADS = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself; run `git lfs pull` there"),
    (b"GGUF", "a GGUF file, quantised for llama.cpp; take the PyTorch checkpoint that it was made from"),
    (b"<!doctype", "a web page, such as an error or a login; download the file again"),
    (b"<html", "a web page, such as an error or a login; download the file again"),
)

_FOLDERS = (
    (
        ("adapter_model.*", "adapter_config.json"),
        "an adapter (LoRA), no model by itself; merge it into its base model first (merge_and_unload)",
    ),
    (
        ("zero_to_fp32.py", "global_step*", "*_optim_states.pt"),
        "shards of DeepSpeed; put them together with its `python zero_to_fp32.py . .` first",
    ),
    (
        (".metadata", "*.distcp", "pytorch_model_fsdp_*"),
        "shards of a distributed checkpoint (FSDP); put them together first with "
        "`python -m torch.distributed.checkpoint.format_utils dcp_to_torch . pytorch_model.bin`",
    ),
    (("*.gguf",), "weights for llama.cpp (GGUF); take the PyTorch checkpoint that they were made from"),
    (("*.onnx",), "weights for ONNX; take the PyTorch checkpoint that they were made from"),
    (("*.msgpack",), "weights for Flax; load them with transformers (from_flax=True) and save them again"),
    (("*.h5",), "weights for TensorFlow; load them with transformers (from_tf=True) and save them again"),
    (("*.ot",), "weights for Rust; take the PyTorch checkpoint that they were made from"),
    (
        ("optimizer*", "scheduler.pt", "rng_state*.pth"),
        "the state of an optimiser without the weights; give the folder that the model was saved in",
    ),
)


def require_weights(path: Path) -> None:
    """Refuse what only looks like a file of weights from outside.

    Raises:
        CheckpointError: says what it is.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512).lstrip()
    except OSError:
        return  # who reads it says so
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path}: empty; download it again")
    for beginning, what in _HEADS:
        if head.lower().startswith(beginning.lower()):
            raise CheckpointError(f"{path}: {what}")


def describe(directory: Path) -> str | None:
    """What lies in a folder without weights that can be read; None where nothing is known."""
    for patterns, what in _FOLDERS:
        for pattern in patterns:
            if found := sorted(directory.glob(pattern)):
                return f"{found[0].name} is of {what}"
    return None


def require_model(names: Iterable[str], where: str) -> None:
    """Refuse tensors that are an adapter, or a model with adapters in it.

    Raises:
        CheckpointError: says so.
    """
    adapters = sorted(name for name in names if "lora_" in name.lower())
    if adapters:
        raise CheckpointError(
            f"{where}: {adapters[0]} is of an adapter (LoRA); merge it into the model first "
            "(merge_and_unload)"
        )
