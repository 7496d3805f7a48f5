"""What training puts around a model: dictionaries around its tensors, prefixes before their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fidkit.convert.notes import Notes
from fidkit.errors import CheckpointError

KEYS = ("state_dict", "model_state_dict", "model", "module", "net")
"""Under which training loops, Lightning and DeepSpeed keep a model's tensors."""
DEEPEST = 4
INFIXES = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""Of torch.compile, FSDP and checkpointing; they may stand between any two parts of a name."""
ANCHORS = ("decoder.final_layer_norm.weight", "embeddings.word_embeddings.weight")
"""A name of T5, and one of BERT, that every checkpoint of it has once, and a student with a teacher twice."""
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
"""Numbers from 0 on, or zeros, that older versions of transformers save with the weights."""


def find_tensors(content: Any, where: str) -> dict[str, Tensor]:
    """Names and tensors in what was pickled, through dictionaries of known keys.

    Raises:
        CheckpointError: something else; says what.
    """
    for _ in range(DEEPEST):
        if not isinstance(content, Mapping):
            break
        if all(isinstance(value, Tensor) for value in content.values()):
            return dict(content)
        inner = next((content[key] for key in KEYS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    raise CheckpointError(f"{where}: {_said(content)}")


def _said(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"expected names and tensors, got {type(content).__name__}; give a model's state_dict"
    if "param_groups" in content or "optimizer" in content or "optimizer_states" in content:
        return "the state of an optimiser without the weights; give the file that the model was saved in"
    others = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    return (
        f"expected names and tensors, or these under one of {', '.join(KEYS)}; got other Python objects as "
        f"{', '.join(others[:5])}; save the model's state_dict alone"
    )


def plain_names(tensors: Mapping[str, Tensor], where: str) -> tuple[dict[str, Tensor], Notes]:
    """A model's own names, without the prefix that all of them have.

    Raises:
        CheckpointError: several models in one file, or two tensors that would have one name.
    """
    tensors = {name: t for name, t in tensors.items() if not name.endswith(BUFFERS)}
    names = {name: _without_infixes(name) for name in tensors}
    prefixes = sorted({n.removesuffix(a) for n in names.values() for a in ANCHORS if n.endswith(a)})
    if len(prefixes) > 1:
        raise CheckpointError(
            f"{where}: holds {len(prefixes)} models, named {', '.join(p + '…' for p in prefixes)}; "
            "expected one; save one of them alone"
        )
    prefix = prefixes[0] if prefixes else ""
    plain = {name.removeprefix(prefix): tensors[full] for full, name in names.items()}
    if len(plain) < len(tensors):
        raise CheckpointError(
            f"{where}: several tensors are named alike but for {prefix!r}; expected one model"
        )
    return plain, Notes(remarks=(f"took {prefix!r} off the names of its tensors",) if prefix else ())


def _without_infixes(name: str) -> str:
    for infix in INFIXES:
        name = name.replace(infix, "")
    return name
