"""What people use instead: FiD as users of other libraries write it, and a decoder-only model."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence

import torch

from fidkit.bench.decoder_only import DecoderOnly
from fidkit.bench.hf_fid import HfCompiled, HfFastest, HfFid
from fidkit.bench.subjects import Subject
from fidkit.config import ReaderConfig
from fidkit.engine.precision import Precision
from fidkit.errors import UsageError

PEERS = {
    "hf": "FiD on transformers' T5, the attention that is fastest here",
    "hf-eager": "the same with eager attention",
    "hf-compile": "the same with torch.compile, and the decoder that is fastest here",
    "openvino-int8": "the encoder on OpenVINO in 8 bits, the decoder on ONNX Runtime in 8 bits",
    "onnxruntime-int8": "both on ONNX Runtime in 8 bits",
    "ctranslate2-int8": "the encoder on CTranslate2 in 8 bits, the decoder on ONNX Runtime in 8 bits",
    "decoder-only": "a model of Qwen2's shape with 0.5 billion parameters; it reads one prompt",
}
PACKAGES = {
    "openvino-int8": ("onnx", "onnxruntime", "openvino", "nncf"),
    "onnxruntime-int8": ("onnx", "onnxruntime"),
    "ctranslate2-int8": ("onnx", "onnxruntime", "ctranslate2"),
}
"""What a peer needs beside `transformers`; these run on a CPU."""


def check_peers(names: Sequence[str]) -> None:
    """Refuse peers that can't be measured.

    Raises:
        UsageError: unknown, named twice, or a package isn't installed.
    """
    for number, name in enumerate(names):
        if name not in PEERS:
            raise UsageError(f"no peer {name!r}; known peers: {', '.join(PEERS)}")
        if name in names[:number]:
            raise UsageError(f"the peer {name} is given twice; name it once")
    for name in names:
        wanted = ("transformers", *PACKAGES.get(name, ()))
        missing = [package for package in wanted if importlib.util.find_spec(package) is None]
        if missing:
            extra = "peers" if name in PACKAGES else "encoders"
            raise UsageError(
                f"{name} needs {', '.join(missing)}, which isn't installed; "
                f"run `pip install 'fidkit[{extra}]'`, or measure without this peer"
            )


def make_peer(name: str, like: ReaderConfig, precision: Precision, device: torch.device) -> Subject:
    """The peer called `name`.

    Args:
        name: one of `PEERS`.
        like: a reader whose encoder's sizes a T5 peer has, in both stacks: T5 has no others.
        precision: of weights; a peer of PyTorch has bfloat16 where ours are rounded to int8.
        device: it runs on.

    Raises:
        UsageError: the peer doesn't run on this device.
    """
    if name in PACKAGES:
        return _make_int8(name, like, device)
    dtype: Precision = "bfloat16" if precision == "int8" else precision
    if name == "decoder-only":
        return DecoderOnly(dtype, device)
    if name == "hf-compile":
        return HfCompiled(like, dtype, device)
    if name == "hf-eager":
        return HfFid(name, like, dtype, device, attention="eager")
    return HfFastest(name, like, dtype, device)


def _make_int8(name: str, like: ReaderConfig, device: torch.device) -> Subject:
    """Its packages are only imported where the peer is asked for."""
    if device.type != "cpu":
        raise UsageError(f"{name} runs on a CPU only; give --device cpu, or leave it out")
    if name == "openvino-int8":
        os.environ.setdefault("NNCF_CI", "1")  # else it reports its use to its makers
        from fidkit.bench.openvino_fid import OpenVinoFid

        return OpenVinoFid(like, device)
    if name == "ctranslate2-int8":
        from fidkit.bench.ctranslate2_fid import CTranslate2Fid

        return CTranslate2Fid(like, device)
    from fidkit.bench.onnxruntime_fid import OnnxRuntimeFid

    return OnnxRuntimeFid(like, device)
