"""A reader made ready to answer fast: its precision and its kernels are chosen once, here."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fidkit import native
from fidkit.calibration import Calibration
from fidkit.checkpoint import to_int8
from fidkit.config import ReaderConfig
from fidkit.context import Batch, Context, Sight
from fidkit.engine.cpu.encoder import NativeEncoder
from fidkit.engine.cpu.torch_decoder import TorchDecoder
from fidkit.engine.cuda import fused
from fidkit.engine.cuda.decoder import CudaDecoder
from fidkit.engine.cuda.encoder import CudaEncoder
from fidkit.engine.precision import ROUNDING, Precision, check_precision
from fidkit.nn.cache import DecoderCache
from fidkit.nn.encoder import EncoderLayers, Run
from fidkit.nn.rows import Rows
from fidkit.reader import Reader
from fidkit.tokens import Tokenizer

# The last bit of a product in bfloat16 can depend on how many vectors there are, where these are few. Fewer
# than these are filled up.
_LEAST_VECTORS = 64


class Runner:
    """Reads and generates as the reader does, faster.

    Args:
        reader: in eval mode; it is left as it is. With native kernels, matrices of its encoders are kept a
            second time once they are used, in the layout of the CPU's matrix library, and the memory of the
            last context's keys and values is kept for the next.
        precision: of weights and activations. Anything but `as-is` may cost a copy of the weights.
        plain: leave native kernels, compiled functions and CUDA graphs out, where there are any.
        own: nobody else uses the reader. It is then not left as it is: bfloat16 matrices that are kept in
            another layout are kept in that one alone, and the encoders can't run without the runner.

    Raises:
        UsageError: no such precision.
    """

    def __init__(
        self, reader: Reader, precision: Precision = "as-is", *, plain: bool = False, own: bool = False
    ) -> None:
        check_precision(precision)
        self.int8 = precision == "int8"
        self.reader = _converted(reader, _dtype(reader, precision)).eval()
        kernels = native.kernels() if _suits_kernels(self.reader) and not plain else None
        self.native = kernels is not None
        # Encoders ask layer by layer whether kernels suit them.
        suits_decoder = self.config.decoder.blocks.kernels == "t5"
        if self.int8 and not (self.native and suits_decoder):
            self.reader = _copy(self.reader, self.reader.embedding.weight.dtype)
            _round(self.reader)
        self._run: Run = EncoderLayers.__call__
        self._decoder: Any = self.reader  # or another with the same `start` and `step`, and caches of its own
        if kernels is not None:
            rounding = ROUNDING.get(precision, "never")
            self._run = NativeEncoder(kernels, own=own, rounding=rounding)
            if suits_decoder:
                self._decoder = TorchDecoder(self.reader, kernels, rounding=rounding)
        elif self.reader.embedding.weight.is_cuda and not plain:
            self._run_on_cuda(fused.compiled(), suits_decoder)

    def _run_on_cuda(self, functions: fused.Functions, suits_decoder: bool) -> None:
        if not suits_decoder:
            self._run = CudaEncoder(functions)
            return
        decoder = CudaDecoder(self.reader, functions)
        self._run, self._decoder = CudaEncoder(functions, make_room=decoder.make_room), decoder

    @property
    def config(self) -> ReaderConfig:
        return self.reader.config

    @property
    def device(self) -> torch.device:
        return self.reader.embedding.weight.device

    @property
    def tokenizer(self) -> Tokenizer | None:
        return self.reader.tokenizer

    @property
    def calibration(self) -> Calibration | None:
        return self.reader.calibration

    @property
    def computes(self) -> str:
        """What it computes with: `float32`, `bfloat16` or `int8`."""
        return "int8" if self.int8 else str(self.memory_type).removeprefix("torch.")

    takes_turns = False
    """What it works within, such as `torch.inference_mode`, is the thread's, and one graph has one cache."""

    @property
    def memory_type(self) -> torch.dtype:
        """What memory is wanted in."""
        return self.reader.embedding.weight.dtype

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Records nothing for training; kernels and graphs go to the GPU that holds the weights."""
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if isinstance(self._decoder, TorchDecoder):
                stack.enter_context(self._decoder.keeping())
            if self.device.type == "cuda":
                stack.enter_context(torch.cuda.device(self.device))
            yield

    @torch.no_grad()
    def encode_passages(self, ids_RP: Tensor, lengths_R: Tensor) -> Tensor:
        """Memory [X, D] of passages, one after the other.

        On a CPU, a passage's is the same in any company, to the last bit: memory that was stored equals
        memory that is computed for a question.
        """
        tokens = int(lengths_R.sum())
        if tokens < _LEAST_VECTORS:
            filler = lengths_R.new_tensor([_LEAST_VECTORS - tokens])
            lengths_R = torch.cat([lengths_R, filler])
            room = max(ids_RP.shape[1], int(filler))
            ids_RP = F.pad(ids_RP, (0, room - ids_RP.shape[1], 0, 1), value=self.config.pad_token)
        return self.reader.encode_passages(ids_RP, lengths_R, self._run_alone)[:tokens]

    def _run_alone(
        self, layers: EncoderLayers, x_XD: Tensor, rows: Rows, norm: nn.Module | None = None
    ) -> Tensor:
        return self._run(layers, x_XD, replace(rows, alone=True), norm)

    @torch.no_grad()
    def read(self, batch: Batch) -> Context:
        """Encode all passages with their question and fuse them."""
        batch = batch.to(self.device)
        if not self.config.memory_layers:
            return self.reader.read(batch, self._run)
        return self.read_memory(batch, self.encode_passages(batch.passage_ids, batch.passage_lengths))

    @torch.no_grad()
    def encode_questions(self, batch: Batch) -> Tensor:
        """Question states [X, D] at the depth where they meet the passages."""
        return self.reader.encode_questions(batch.question_ids, batch.question_lengths, self._run)

    @torch.no_grad()
    def read_memory(self, batch: Batch, memory_XD: Tensor, question_XD: Tensor | None = None) -> Context:
        """`read` with the passages' memory at hand; `batch.passage_ids` is not looked at.

        Args:
            batch: of B questions.
            memory_XD: as `encode_passages` gives it.
            question_XD: as `encode_questions` gives it, for those who have it already.
        """
        return self.reader.read_memory(batch, memory_XD, self._run, question_XD)

    @torch.no_grad()
    def start(self, context: Context, max_tokens: int, beams: int = 1) -> DecoderCache:
        """Project the context's keys and values; make room for `max_tokens` steps of `beams` rows each."""
        cache: DecoderCache = self._decoder.start(context, max_tokens, beams)
        return cache

    @torch.no_grad()
    def step(self, ids_N: Tensor, cache: DecoderCache) -> Tensor:
        """Logits [N, V] (float32) of the token after `ids_N`; the first token is the padding token."""
        logits: Tensor = self._decoder.step(ids_N, cache)
        return logits

    @torch.no_grad()
    def look(self, ids_BT: Tensor, context: Context) -> Sight:
        """What it makes of answers as it wrote them, and where it looks meanwhile."""
        source = self._decoder if isinstance(self._decoder, TorchDecoder) else self.reader
        return source.look(ids_BT, context)


def moved(reader: Reader, device: torch.device) -> Reader:
    """The reader if it is on the device already, else a copy there."""
    at = reader.embedding.weight.device
    if at.type == device.type and device.index in (None, at.index):
        return reader
    return _copy(reader, reader.embedding.weight.dtype).to(device)


def _dtype(reader: Reader, precision: Precision) -> torch.dtype:
    weight = reader.embedding.weight
    if precision in ("auto", "int8"):
        return torch.bfloat16 if multiplies_bfloat16(weight.device) else torch.float32
    if precision == "as-is":
        return weight.dtype
    return torch.float32 if precision == "float32" else torch.bfloat16


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; what `auto` asks."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    kernels = native.kernels()
    return kernels is not None and kernels.has_bfloat16


def _converted(reader: Reader, dtype: torch.dtype) -> Reader:
    return reader if dtype == reader.embedding.weight.dtype else _copy(reader, dtype)


def _copy(reader: Reader, dtype: torch.dtype) -> Reader:
    """Weights of its own, the same tokenizer. Each weight is converted as it is copied, and copied once."""
    copies: dict[int, Any] = {id(reader.tokenizer): reader.tokenizer}
    for p in reader.parameters():
        converted = p.detach().to(dtype, copy=True)
        copies[id(p)] = torch.nn.Parameter(converted, requires_grad=p.requires_grad)
    return copy.deepcopy(reader, copies)


def loading_type(precision: Precision, device: torch.device) -> str | None:
    """The `dtype` to load a reader with for a runner on `device`: then the runner makes no copy of weights.

    None leaves weights in the file, as they are stored; a runner in bfloat16 converts those that are float32.
    """
    if precision == "auto":
        return None if multiplies_bfloat16(device) else "float32"
    return "float32" if precision in ("as-is", "float32") else None


def _suits_kernels(reader: Reader) -> bool:
    config, weight = reader.config, reader.embedding.weight
    stacks = (config.encoder, config.decoder, config.memory_stack)
    return (
        weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and all(stack.head_width % native.LANES == 0 for stack in stacks)
    )


def _once(name: str) -> bool:
    """Whether a matrix of the decoder is used once a question, for many vectors."""
    return name.endswith(("cross_attention.key.weight", "cross_attention.value.weight"))


@torch.no_grad()
def _round(reader: Reader) -> None:
    """What int8 weights compute, without their speed: the same numbers in the reader's own type."""
    many = reader.embedding.weight.dtype == torch.float32  # products with many vectors gain by it, too
    matrices: list[Tensor] = [
        p for name, p in reader.decoder.layers.named_parameters() if p.ndim == 2 and (many or not _once(name))
    ]
    if not reader.config.tied_head:
        matrices.append(reader.head_weight)
    encoders = [module for module in reader.modules() if isinstance(module, EncoderLayers)] if many else []
    matrices += [p for encoder in encoders for p in encoder.layers.parameters() if p.ndim == 2]
    for weight in matrices:
        rounded, scale = to_int8(weight)
        weight.copy_(rounded * scale[:, None])
