"""FiD on ONNX Runtime in 8 bits: weights by channel, activations by tensor as they come.

Its decoder is also that of the other peers in 8 bits: the libraries that encode fast have no faster one.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor

from fidkit.bench import t5_onnx
from fidkit.bench.batches import SortedRows, SubBatch
from fidkit.bench.questions import Questions
from fidkit.bench.subjects import Facts, Needs
from fidkit.bench.t5_fid import SIZES, T5Fid, t5_sizes
from fidkit.config import ReaderConfig
from fidkit.cost import Workload, batch_bytes, parameters
from fidkit.cost.workload import live_rows

_CONVERTING = 3
"""Copies of all weights in float32 while they are converted: the model, its graph, and what is made of it."""


class Int8Fid(T5Fid):
    """FiD on T5 with an encoder that multiplies in 8 bits, and ONNX Runtime's decoder in 8 bits.

    It runs on a CPU. It starts from weights in float32.
    """

    NAME: str
    LIBRARY: str
    """What runs the encoder, in words."""

    def __init__(self, like: ReaderConfig, device: torch.device, model: Any = None) -> None:
        super().__init__(self.NAME, like, "float32", device, model)

    @abstractmethod
    def make_encoder(self, folder: Path) -> None:
        """Make the encoder of `self.model`; the folder is gone afterwards."""

    @property
    def facts(self) -> Facts:
        # The cost model knows no encoder that multiplies in 8 bits: no ceiling is better than a wrong one.
        return Facts(
            preset=None,
            dtype="int8",
            config={
                "model": "T5ForConditionalGeneration",
                "encoder": self.LIBRARY,
                "decoder": "onnxruntime, dynamic int8",
                "sub_batch": self.size,
                "encoder_tried_ms": self.encoder_tried_ms,
                **t5_sizes(self.config),
            },
        )

    def needs(self, workload: Workload) -> Needs:
        padded = workload.replace(padded=True, dtype="float32", decoder_dtype=None)
        memory = batch_bytes(self.config, padded)
        words = 4 * self.config.vocabulary_size * self.config.encoder.width
        at_once = min(1.0, SIZES[self.device.type][-1] / (workload.questions * workload.passages))
        scores = live_rows(padded).pairs * self.config.encoder.heads * padded.value_bytes
        reading = int(at_once * (memory.reading + 3 * scores))
        running = memory.total - memory.weights - memory.reading + reading
        converting = _CONVERTING * 4 * parameters(self.config)
        return Needs(parameters(self.config) + 2 * words, max(running, converting))

    def prepare(self, questions: Questions) -> None:
        super().prepare(questions)
        with tempfile.TemporaryDirectory(prefix="fidkit-bench-") as folder:
            self.make_encoder(Path(folder))
            self.decoder = Decoder(self.model, Path(folder), masked=not self.rows.even)
        self.model = None  # what was made of it is enough

    def decode(self, tokens: int) -> Tensor:
        return self.decoder.write(self.fused_BMD, self.rows, tokens)


class OnnxRuntimeFid(Int8Fid):
    """Encoder and decoder on ONNX Runtime."""

    NAME = "onnxruntime-int8"
    LIBRARY = "onnxruntime, dynamic int8"

    def make_encoder(self, folder: Path) -> None:
        t5_onnx.write_encoder(self.model, folder / "encoder.onnx")
        self.session = int8_session(folder / "encoder.onnx")

    def run_batch(self, batch: SubBatch) -> Tensor:
        (states,) = self.session.run(None, {"ids": batch.ids.numpy(), "mask": batch.mask.numpy()})
        return torch.from_numpy(states)


class Decoder:
    """Writes greedily: keys and values of what was read are computed once, those of tokens are kept.

    Args:
        model: a `T5ForConditionalGeneration` in float32.
        folder: for files on the way; not needed afterwards.
        masked: whether some questions have fewer vectors than others.
    """

    def __init__(self, model: Any, folder: Path, *, masked: bool) -> None:
        self.start, self.masked = model.config.decoder_start_token_id, masked
        t5_onnx.write_cross(model, folder / "cross.onnx")
        t5_onnx.write_step(model, folder / "step.onnx", masked=masked)
        self.cross, self.step = (int8_session(folder / name) for name in ("cross.onnx", "step.onnx"))
        self.cross_names = [output.name for output in self.cross.get_outputs()]
        self.past_names = [f"past_{name.removeprefix('cross_')}" for name in self.cross_names]
        self.empty = [(model.config.num_heads, *_empty(name, model.config.d_kv)) for name in self.past_names]

    def write(self, fused_BMD: Tensor, rows: SortedRows, tokens: int) -> Tensor:
        """So many tokens [B, T]."""
        cross = self.cross.run_with_ort_values(None, {"states": _value(fused_BMD)})
        given = dict(zip(self.cross_names, cross, strict=True))
        if self.masked:
            given["mask"] = _value(rows.mask_BM)
        count = len(fused_BMD)
        past = [_value(torch.zeros(count, *shape)) for shape in self.empty]
        last = _value(torch.full((count, 1), self.start))
        written = []
        for _ in range(tokens):
            given |= {"ids": last, **dict(zip(self.past_names, past, strict=True))}
            last, *past = self.step.run_with_ort_values(None, given)
            written.append(torch.from_numpy(last.numpy()))
        return torch.cat(written, 1)


def int8_session(path: Path) -> Any:
    """The graph of a file, its products with weights rounded to 8 bits, ready to run."""
    rounded = path.with_suffix(".int8.onnx")
    with quietly():
        quantize_dynamic(
            path,
            rounded,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            # Without VNNI, sums of two products of 8 bits are cut off at 16: one bit less, and they fit.
            reduce_range=not has_vnni(),
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
            extra_options={"MatMulConstBOnly": True},
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(rounded), options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without what libraries say while they convert: stdout is for results."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def has_vnni() -> bool:
    """Whether the CPU adds products of 8 bits in 32, and libraries may know it."""
    return bool(torch.cpu._is_vnni_supported()) and not is_limited()


def is_limited() -> bool:
    """Whether libraries are to take this CPU for an older one, by oneDNN's variable for that."""
    return os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper() in ("SSE41", "AVX", "AVX2")


def _value(tensor: Tensor) -> Any:
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(tensor.numpy()))


def _empty(name: str, width: int) -> Sequence[int]:
    """Heads' keys [h, 0] or values [0, h]."""
    return (width, 0) if name.startswith("past_k") else (0, width)
