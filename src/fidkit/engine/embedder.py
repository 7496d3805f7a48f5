"""Texts to vectors, by an encoder of its own or the one in a reader: for search by meaning."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fidkit import checkpoint, native
from fidkit.checkpoint.pooling import FILE, Pooling
from fidkit.config import ReaderConfig
from fidkit.context import pad
from fidkit.convert import files
from fidkit.convert.foreign import read_hf
from fidkit.convert.pooling import model_directory, read_pooling
from fidkit.convert.reshape import Weights, join_encoder
from fidkit.convert.vocabulary import read_vocabulary, require_fit
from fidkit.devices import choose_device
from fidkit.engine.cpu.encoder import NativeEncoder
from fidkit.engine.pooled import BATCH_TOKENS, apart, batches, rows_apart, rows_of
from fidkit.errors import CheckpointError
from fidkit.nn.blocks import Side, blocks
from fidkit.nn.encoder import EncoderLayers, LiveEncoder, Run
from fidkit.nn.rows import Rows
from fidkit.tokens import Tokenizer
from fidkit.types import Passage

_log = logging.getLogger(__name__)


class Encoder(nn.Module):
    """Embedding and encoder of a reader with all layers live, without the rest of it.

    Args:
        config: of the reader; what it says of a decoder is of no effect.
    """

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__()
        self.embedding = blocks(config.encoder).embedding(config, config.encoder, config.vocabulary_size)
        self.live_encoder = LiveEncoder(config, config.encoder.layers)

    def forward(
        self, ids_RS: Tensor, rows: Rows, run: Run = EncoderLayers.__call__, side: Side = "question"
    ) -> Tensor:
        """States [X, D] of the tokens [R, S] of texts, one after the other."""
        embedded = self.embedding.of_rows(rows.pack(ids_RS), rows, side)
        return run(self.live_encoder, embedded, rows, self.live_encoder.norm)


class Embedder:
    """Makes one vector of each text, as the encoder's authors meant it.

    Args:
        encoder: in eval mode, on the device to compute on.
        tokenizer: of its vocabulary; what looks like a control token in a text is text.
        pooling: from states to a vector.

    Attributes:
        width: D, numbers of a vector.
        pooling: as given.
    """

    def __init__(self, encoder: Encoder, tokenizer: Tokenizer, pooling: Pooling) -> None:
        self._encoder, self._tokenizer, self.pooling = encoder, tokenizer, pooling
        self.width = tokenizer.config.encoder.width
        self._run: Run = EncoderLayers.__call__
        if kernels := _kernels(tokenizer.config, encoder.embedding.weight):
            self._run = NativeEncoder(kernels)

    @classmethod
    def open(cls, path_or_name: str | Path, device: str | torch.device = "auto") -> Embedder:
        """An encoder of BERT's layout (MiniLM, E5, BGE, GTE), or that of a reader that was made of one.

        Args:
            path_or_name: a checkpoint's directory, of sentence-transformers, of transformers or ours with a
                `pooling.json`; or a name on the Hugging Face hub.
            device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:1`.

        Raises:
            CheckpointError: not there, of no known kind, without a vocabulary, or with modules that aren't
                run here.
            UsageError: no such device.
        """
        chosen, directory = choose_device(device), files.locate(path_or_name)
        config, weights, tokenizer = _read(directory)
        pooling, remark = read_pooling(directory, config.positions)
        if remark is not None:
            _log.warning(f"{directory}: {remark}")
        with torch.device("meta"):
            encoder = Encoder(apart(config))
        own = {n: t for n, t in weights.items() if n.startswith(("embedding.", "live_encoder."))}
        checkpoint.assign(encoder, own, str(directory))
        return cls(encoder.eval().to(chosen), tokenizer, pooling)

    def embed(self, texts: Sequence[str], prompt: str | None = None) -> NDArray[np.float32]:
        """Vectors [N, D], float32, of N texts.

        A text is read as far as `pooling.tokens` reach; how many were longer is said once, as a warning.

        Args:
            texts: any number.
            prompt: the name of what the model wants in front of them, such as `query`; None takes the one
                that it has by default, if any.

        Raises:
            UsageError: no such prompt; names those there are. Or a single text instead of several.
        """
        return self._vectors(rows_of(texts, prompt, self._tokenizer, self.pooling), "question")

    def embed_apart(self, passages: Sequence[Passage]) -> NDArray[np.float32]:
        """Vectors [N, D], float32, of N passages as a reader made of this encoder has them.

        Title and text are apart, and begin at position 0. So the states of its first layers are the memory
        (`fidkit memory`) of a reader whose passages begin there, and one pass gives both.
        """
        return self._vectors(rows_apart(passages, self._tokenizer), "passage")

    def _vectors(self, rows: Sequence[Sequence[int]], side: Side) -> NDArray[np.float32]:
        budget = BATCH_TOKENS["cuda" if self._device.type == "cuda" else "cpu"]
        vectors = np.empty((len(rows), self.width), np.float32)
        for batch in batches(rows, budget):
            vectors[batch] = self._encode([rows[number] for number in batch], side).cpu().numpy()
        return vectors

    def fingerprint(self) -> str:
        """SHA-256 over all that decides the vector of a text: weights, vocabulary, pooling."""
        config = self._tokenizer.config
        said = [config.encoder.model_dump_json(), self.pooling.model_dump_json()]
        said += [str(config.start_token), str(config.end_token), self._tokenizer.backend.to_str()]
        digest = hashlib.sha256("\0".join(said).encode())
        for name, p in sorted(self._encoder.named_parameters()):
            digest.update(name.encode())
            digest.update(p.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @torch.no_grad()
    def _encode(self, texts: Sequence[Sequence[int]], side: Side) -> Tensor:
        """[N, D] of texts as tokens."""
        ids_RS = torch.from_numpy(pad(texts, self._tokenizer.config.pad_token)).to(self._device)
        rows = Rows(torch.tensor([len(text) for text in texts], device=self._device))
        states_XD = self._encoder(ids_RS, rows, self._run, side).float()
        if self.pooling.way == "cls":
            pooled = states_XD[rows.starts[:-1]]
        else:
            summed = states_XD.new_zeros(len(texts), self.width).index_add_(0, rows.row_X, states_XD)
            pooled = summed / rows.lengths[:, None]
        return F.normalize(pooled, dim=-1) if self.pooling.normalised else pooled

    @property
    def _device(self) -> torch.device:
        return self._encoder.embedding.weight.device


def _read(directory: Path) -> tuple[ReaderConfig, Weights, Tokenizer]:
    """An encoder with all layers live: configuration, weights under our names, vocabulary."""
    if (directory / FILE).is_file():
        saved = checkpoint.read(directory)
        config, weights = join_encoder(saved.config, saved.tensors)
        tokenizer = saved.tokenizer
    else:
        if "format_version" in files.read_json(directory / checkpoint.CONFIG):
            raise CheckpointError(
                f"{directory}: a reader without {FILE}, so that no vectors are to be had of it; give the "
                "encoder that it was made from"
            )
        inside = model_directory(directory)
        config, weights, _ = read_hf(inside)
        backend = read_vocabulary(inside)
        require_fit(inside, backend, config)
        tokenizer = None if backend is None else Tokenizer(backend, config)
    if tokenizer is None or config.start_token is None:
        raise CheckpointError(
            f"{directory}: expected an encoder that makes vectors, with its vocabulary (BERT, MiniLM, E5, "
            f"BGE, GTE), got {config.encoder.family}"
        )
    return config, weights, tokenizer


def _kernels(config: ReaderConfig, weight: Tensor) -> native.Kernels | None:
    """Native ones, where the encoder's family has any."""
    stack = config.encoder
    if stack.blocks.kernels is None or weight.device.type != "cpu" or stack.head_width % native.LANES:
        return None
    return native.kernels()
