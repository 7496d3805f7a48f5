"""FiD with an encoder on CTranslate2 in 8 bits: weights by channel, activations by token as they come."""

from __future__ import annotations

import copy
from pathlib import Path

import ctranslate2
import numpy as np
import torch
from ctranslate2.converters.transformers import T5Loader
from ctranslate2.specs import TransformerEncoderModelSpec
from torch import Tensor

from fidkit.bench.batches import SubBatch
from fidkit.bench.onnxruntime_fid import Int8Fid


class CTranslate2Fid(Int8Fid):
    """The encoder on CTranslate2, the decoder on ONNX Runtime."""

    NAME = "ctranslate2-int8"
    LIBRARY = "ctranslate2, int8"

    def make_encoder(self, folder: Path) -> None:
        # A copy, since weights are rounded where they are.
        spec = TransformerEncoderModelSpec(T5Loader().get_model_spec(copy.deepcopy(self.model)).encoder)
        # It wants a vocabulary, though tokens are given as numbers.
        spec.register_vocabulary([f"<{number}>" for number in range(self.config.vocabulary_size)])
        spec.config.unk_token = spec.config.bos_token = spec.config.eos_token = "<0>"
        spec.validate()
        spec.optimize(quantization="int8")
        spec.save(str(folder))
        self.runner = ctranslate2.Encoder(
            str(folder), "cpu", compute_type="int8", intra_threads=torch.get_num_threads()
        )

    def run_batch(self, batch: SubBatch) -> Tensor:
        ids, lengths = batch.ids.int().numpy(), batch.mask.sum(1).int().numpy()
        views = (ctranslate2.StorageView.from_array(array) for array in (ids, lengths))
        states = self.runner.forward_batch(*views).last_hidden_state
        return torch.from_numpy(np.array(states))
