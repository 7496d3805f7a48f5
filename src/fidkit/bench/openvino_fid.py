"""FiD with an encoder on OpenVINO in 8 bits, weights and activations, as NNCF calibrates it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nncf
import openvino
import torch
from torch import Tensor

from fidkit.bench import t5_onnx
from fidkit.bench.batches import SortedRows, SubBatch
from fidkit.bench.onnxruntime_fid import Int8Fid, has_vnni, is_limited, quietly

CALIBRATION = 16
"""Rows whose activations are looked at."""


class OpenVinoFid(Int8Fid):
    """The encoder on OpenVINO, the decoder on ONNX Runtime."""

    NAME = "openvino-int8"
    LIBRARY = "openvino, nncf int8"

    def make_encoder(self, folder: Path) -> None:
        t5_onnx.write_encoder(self.model, folder / "encoder.onnx")
        core = openvino.Core()
        with quietly():
            rounded = nncf.quantize(
                core.read_model(folder / "encoder.onnx"),
                nncf.Dataset(self._calibration()),
                model_type=nncf.ModelType.TRANSFORMER,
                subset_size=CALIBRATION,
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    # Without VNNI, sums of two products of 8 bits are cut off at 16.
                    overflow_fix=nncf.OverflowFix.DISABLE if has_vnni() else nncf.OverflowFix.ENABLE
                ),
            )
        settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        if is_limited():  # it would still take bfloat16, which the CPU has, and find no kernels for it
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        self.request = core.compile_model(rounded, "CPU", settings).create_infer_request()

    def run_batch(self, batch: SubBatch) -> Tensor:
        given = {"ids": batch.ids.numpy(), "mask": batch.mask.numpy()}
        # The request writes the next sub-batch's states where these are.
        return torch.from_numpy(self.request.infer(given, share_inputs=True)["states"])

    def _calibration(self) -> list[dict[str, Any]]:
        rows = SortedRows(self.questions, 1, self.config.pad_token, self.device)
        every = max(1, len(rows.batches) // CALIBRATION)
        return [{"ids": b.ids.numpy(), "mask": b.mask.numpy()} for b in rows.batches[::every]][:CALIBRATION]
