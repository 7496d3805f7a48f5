"""What people use instead, on `transformers`: FiD as its users write it, and a decoder-only model."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import torch

from fidkit.bench.decoder_only import DecoderOnly
from fidkit.bench.hf_fid import HfCompiled, HfFid
from fidkit.bench.subjects import Subject
from fidkit.config import ReaderConfig
from fidkit.engine.precision import Precision
from fidkit.errors import UsageError

PEERS = {
    "hf": "FiD on transformers' T5, its default attention",
    "hf-eager": "the same with eager attention",
    "hf-compile": "the same with torch.compile, and the decoder that is fastest here",
    "decoder-only": "a model of Qwen2's shape with 0.5 billion parameters; it reads one prompt",
}


def check_peers(names: Sequence[str]) -> None:
    """Refuse peers that can't be measured.

    Raises:
        UsageError: unknown, named twice, or `transformers` isn't installed.
    """
    for number, name in enumerate(names):
        if name not in PEERS:
            raise UsageError(f"no peer {name!r}; known peers: {', '.join(PEERS)}")
        if name in names[:number]:
            raise UsageError(f"the peer {name} is given twice; name it once")
    if names and importlib.util.find_spec("transformers") is None:
        raise UsageError(
            f"{', '.join(names)} needs transformers, which isn't installed; "
            "run `pip install 'fidkit[encoders]'`, or measure without peers"
        )


def make_peer(name: str, like: ReaderConfig, precision: Precision, device: torch.device) -> Subject:
    """The peer called `name`.

    Args:
        name: one of `PEERS`.
        like: a reader whose encoder's sizes a T5 peer has, in both stacks: T5 has no others.
        precision: of weights; a peer has bfloat16 where ours are rounded to int8.
        device: it runs on.
    """
    dtype: Precision = "bfloat16" if precision == "int8" else precision
    if name == "decoder-only":
        return DecoderOnly(dtype, device)
    if name == "hf-compile":
        return HfCompiled(like, dtype, device)
    return HfFid(name, like, dtype, device, attention="eager" if name == "hf-eager" else "sdpa")
