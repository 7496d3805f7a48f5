"""The reader: one module for every point of the space.

    question, passages -> read -> Context -> decode (training) or start/step (generation)

Letters in shape suffixes: see `fidkit.nn` and `fidkit.context`.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fidkit import assets, checkpoint
from fidkit.calibration import Calibration
from fidkit.checkpoint.shapes import require_decoder
from fidkit.config import ReaderConfig
from fidkit.context import IGNORED, Batch, Context, Sight
from fidkit.errors import UsageError
from fidkit.fusion import Joined, fuse, join, lay_out, with_the_one_before
from fidkit.nn.blocks import TargetEmbedding, blocks
from fidkit.nn.cache import DecoderCache
from fidkit.nn.decoder import Decoder, LayerProbe
from fidkit.nn.encoder import EncoderLayers, LiveEncoder, MemoryEncoder, Run
from fidkit.nn.initialise import initialise
from fidkit.nn.rerank import Reranker
from fidkit.nn.rows import Rows
from fidkit.nn.undrawn import undrawn
from fidkit.preset import named
from fidkit.tokens import Tokenizer


@dataclass(frozen=True)
class Output:
    """What `Reader.forward` returns.

    Attributes:
        loss: mean cross-entropy of the target tokens, a scalar in nats.
        logits: [B, T, V], float32.
        tokens: target tokens that the mean is over.
    """

    loss: Tensor
    logits: Tensor
    tokens: int


class Reader(nn.Module):
    """A Fusion-in-Decoder reader.

    Args:
        config: the point in the space of readers.
        tokenizer: vocabulary and text formats; needed to answer text, not to run on tokens.

    Attributes:
        calibration: says how likely answers are right, and which are withheld; None withholds none.
    """

    def __init__(self, config: ReaderConfig, tokenizer: Tokenizer | None = None) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.calibration: Calibration | None = None
        encoder, decoder = config.encoder, config.decoder
        self.embedding = blocks(encoder).embedding(config, encoder, config.vocabulary_size)
        self.memory_encoder = MemoryEncoder(config, self.embedding)
        if "embedding" in config.frozen:
            for embedding in (self.embedding, self.memory_encoder.embedding):
                embedding.weight.requires_grad_(False)
        self.memory_projection: nn.Linear | None = None
        if config.projects_memory:
            self.memory_projection = nn.Linear(config.memory_width, encoder.width, bias=False)
        self.question_encoder = EncoderLayers(
            config, config.question_layers, frozen="question" in config.frozen
        )
        self.live_encoder = LiveEncoder(config, config.live)
        self.reranker = Reranker(config.rerank, encoder.width) if config.rerank else None
        shared = self.embedding if config.shared_embedding else None
        self.decoder = Decoder(config, blocks(decoder).decoder_embedding(config, shared))
        self.head = _TiedHead(config, self.decoder.embedding) if config.tied_head else _Head(config)
        if not self.embedding.weight.is_meta:
            self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw T5's initial weights; the encoders start as parts of one (LUMEN)."""
        initialise(self, generator)
        self.split_encoder()

    @torch.no_grad()
    def split_encoder(self) -> None:
        """Make the three encoders parts of one: equal relative bias, and memory by the question's layers.

        A memory encoder of its own shape stays as it is.
        """
        config = self.config
        if config.memory_layers and config.memory_encoder is None:
            self.memory_encoder.encoder.load_state_dict(self.question_encoder.state_dict())
            self.memory_encoder.embedding.load_state_dict(self.embedding.state_dict())
        asked, live = self.question_encoder.relative_bias, self.live_encoder.relative_bias
        if asked is not None and live is not None:
            live.load_state_dict(asked.state_dict())

    # Reading

    def encode_passages(self, ids_RP: Tensor, lengths_R: Tensor, run: Run = EncoderLayers.__call__) -> Tensor:
        """Memory [X, memory width] of passages, one after the other: what LUMEN stores.

        Embeddings alone where there is no memory encoder. Never projected: a projection is trained, and
        what is stored should stay valid.
        """
        rows = Rows(lengths_R)
        embedded = self.memory_encoder.embedding.of_rows(rows.pack(ids_RP), rows, "passage")
        return run(self.memory_encoder.encoder, embedded, rows)

    def encode_questions(
        self, ids_BQ: Tensor, lengths_B: Tensor, run: Run = EncoderLayers.__call__
    ) -> Tensor:
        """Question states [X, D] at the depth where they meet the passages, once per question."""
        rows = Rows(lengths_B)
        embedded = self.embedding.of_rows(rows.pack(ids_BQ), rows, "question")
        if self.question_encoder.frozen:
            embedded = embedded.detach()  # or the decoder's table would be trained through frozen layers
        return run(self.question_encoder, embedded, rows)

    def read(self, batch: Batch, run: Run = EncoderLayers.__call__) -> Context:
        """Encode all passages with their question and fuse them.

        Args:
            batch: of B questions.
            run: how encoder layers are run, for engines that have a faster way.
        """
        return self.read_memory(
            batch, self.encode_passages(batch.passage_ids, batch.passage_lengths, run), run
        )

    def read_memory(
        self,
        batch: Batch,
        memory_XD: Tensor,
        run: Run = EncoderLayers.__call__,
        question_XD: Tensor | None = None,
    ) -> Context:
        """`read` with the passages' memory at hand.

        Args:
            batch: of B questions; `passage_ids` is looked at only where the decoder reads tokens beside their
                states (`ReaderConfig.token_skip`).
            memory_XD: as `encode_passages` gives it, [X, memory width].
            run: how encoder layers are run.
            question_XD: as `encode_questions` gives it, for those who have it already.
        """
        config = self.config
        if question_XD is None:
            question_XD = self.encode_questions(batch.question_ids, batch.question_lengths, run)
        if self.memory_projection is not None:
            memory_XD = self.memory_projection(memory_XD)
        questions, passages = Rows(batch.question_lengths), Rows(batch.passage_lengths)
        ids, asked_X2 = None, None
        if config.token_skip:
            ids = (questions.pack(batch.question_ids), passages.pack(batch.passage_ids), config.pad_token)
            asked_X2 = with_the_one_before(ids[0], questions, config.pad_token)
        joined = join(
            question_XD, questions, memory_XD, passages, batch.question_of_passage, config.live_attention, ids
        )
        joined, scores_R = self._read_live(joined, run)
        context = fuse(
            joined,
            keep=config.kept_vectors,
            question_states_XD=self.live_encoder.finish(question_XD),
            questions=questions,
            question_in_context=config.question_in_context,
            question_ids_X2=asked_X2,
        )
        if context.ids_BM2 is not None:
            context = replace(context, states_BMD=self._beside_tokens(context.states_BMD, context.ids_BM2))
        if scores_R is None:
            return context
        scores_BN = lay_out(scores_R, batch.question_of_passage, len(batch.question_lengths))
        return replace(context, scores_BN=scores_BN)

    def _beside_tokens(self, states_BMD: Tensor, ids_BM2: Tensor) -> Tensor:
        """[B, M, D + 2E]: behind each state its token as the decoder writes it, and the one before that."""
        tokens = self.decoder.embedding(ids_BM2).flatten(2)
        return torch.cat([states_BMD, tokens.to(states_BMD.dtype)], -1)

    def _read_live(self, joined: Joined[Rows], run: Run) -> tuple[Joined[Rows], Tensor | None]:
        """Through the live layers; scores [R] where passages are left behind."""
        live, scores_R = self.live_encoder, None
        last: EncoderLayers = live
        if self.reranker is not None:
            first, last = live.parts(self.reranker.config.after)
            joined = replace(joined, states_XD=run(first, joined.states_XD, joined.rows))
            scores_R = self.reranker(joined.states_XD, joined.rows)
            joined = joined.select(self.reranker.choose(scores_R, joined.question_R))
        states_XD = run(last, joined.states_XD, joined.rows, live.norm)
        return replace(joined, states_XD=live.last_dropout(states_XD)), scores_R

    # Training

    def decode(self, labels_BT: Tensor, context: Context, probe: LayerProbe | None = None) -> Tensor:
        """Logits [B, T, V] (float32) of every target token given the ones before it."""
        return self.head(self._target_states(labels_BT, context, probe)).float()

    def answer_loss(self, labels_BT: Tensor, context: Context, probe: LayerProbe | None = None) -> Tensor:
        """Summed cross-entropy of the target tokens, in nats; padding costs no logits."""
        real = labels_BT != IGNORED
        logits = self.head(self._target_states(labels_BT, context, probe)[real]).float()
        return F.cross_entropy(logits, labels_BT[real], reduction="sum")

    def _target_states(self, labels_BT: Tensor, context: Context, probe: LayerProbe | None) -> Tensor:
        """Decoder states [B, T, E], each having seen the targets before its own."""
        ids = labels_BT.roll(1, dims=1)
        ids = ids.masked_fill(ids == IGNORED, self.config.pad_token)
        ids[:, 0] = self.config.pad_token
        return self.decoder(ids, context.states_BMD, context.mask_BM, probe)

    def forward(self, batch: Batch) -> Output:
        """Loss and logits of a batch with labels.

        Raises:
            ValueError: the batch has no labels.
        """
        if batch.labels is None:
            raise ValueError("the batch has no labels; give collate() targets, or only encode with read()")
        logits = self.decode(batch.labels, self.read(batch))
        loss = F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED)
        return Output(loss, logits, int((batch.labels != IGNORED).sum()))

    # Generation

    def start(self, context: Context, max_tokens: int, beams: int = 1) -> DecoderCache:
        """Project the context's keys and values; make room for `max_tokens` steps of `beams` rows each."""
        return self.decoder.start(context.states_BMD, context.mask_BM, max_tokens, beams)

    def step(self, ids_N: Tensor, cache: DecoderCache) -> Tensor:
        """Logits [N, V] (float32) of the token after `ids_N`; the first token is the padding token.

        N = B * beams rows, those of a question together.

        Raises:
            UsageError: `max_tokens` steps are done.
        """
        return self.head(self.decoder.step(ids_N, cache)).float()

    def look(self, ids_BT: Tensor, context: Context) -> Sight:
        """What it makes of answers [B, T] as it wrote them (`IGNORED` behind ends), and where it looked."""
        steps_BT = (ids_BT != IGNORED).float()
        mass_BM = torch.zeros(context.mask_BM.shape, device=ids_BT.device)
        first_BM = mass_BM

        def collect(_layer: int, scores_BHTM: Tensor) -> None:
            nonlocal mass_BM, first_BM
            weights = scores_BHTM.softmax(-1)
            mass_BM = mass_BM + torch.einsum("bhtm,bt->bm", weights, steps_BT)
            first_BM = weights[:, :, 0].sum(1)

        return Sight(self.decode(ids_BT, context, collect), mass_BM, first_BM)

    @property
    def head_weight(self) -> Tensor:
        """[V, E], what logits are products with; a tied head scales them by E ** -0.5."""
        head = self.head
        return head.embedding.weight if isinstance(head, _TiedHead) else head.linear.weight

    @property
    def head_bias(self) -> Tensor | None:
        """[V], added to the logits; None where the reader has none."""
        head = self.head
        if isinstance(head, _TiedHead):
            return None if head.bias is None else head.bias.weight
        return head.linear.bias

    # Life cycle

    @classmethod
    def from_preset(cls, name: str, seed: int = 0) -> Reader:
        """A reader with random weights and the bundled vocabulary.

        Raises:
            UsageError: no such preset.
        """
        config = named(name)
        reader = cls(config, Tokenizer.bundled(config))
        reader.reset_parameters(torch.Generator().manual_seed(seed))
        return reader.eval()

    @classmethod
    def without_weights(cls, config: ReaderConfig, tokenizer: Tokenizer | None = None) -> Reader:
        """Names and shapes alone, for `fidkit.checkpoint.assign`; takes no memory and draws nothing."""
        with undrawn():
            return cls(config, tokenizer)

    @classmethod
    def from_pretrained(cls, path_or_name: str | Path, dtype: str | None = "float32") -> Reader:
        """Load a directory, the bundled reader (`pocket`) or a name on the hub, ready to answer.

        Weights that are stored in the type they are wanted in stay in the file, mapped: they take memory
        once they are read or changed. The file may be replaced or deleted meanwhile, and never changes with
        the reader. Others are converted; bfloat16 computed with as float32 loses nothing.

        Args:
            path_or_name: where it is.
            dtype: what to compute with, `float32`, `bfloat16` or `float16`; None is what the file has, where
                that is one of the first two, else float32.

        Raises:
            CheckpointError: nothing there, or tensors missing, superfluous or of another shape.
            UsageError: another `dtype`.
        """
        kind = None if dtype is None else checkpoint.type_of(dtype)
        saved = checkpoint.read(checkpoint.locate(path_or_name))
        require_decoder(saved.tensors.keys(), path_or_name)
        reader = cls.without_weights(saved.config, saved.tokenizer)
        reader.calibration = saved.calibration
        checkpoint.assign(reader, saved.tensors, saved.where, kind, alone=saved.alone)
        return reader.eval()

    def save_pretrained(
        self, directory: str | Path, dtype: str | None = None, share_with: str | None = None
    ) -> None:
        """Write `config.json`, `model.safetensors`, and what it has of `tokenizer.json`, `calibration.json`.

        Files of an earlier save are replaced, which a reader that was loaded from them outlives.

        Args:
            directory: made if missing.
            dtype: store weights as `float32`, `bfloat16`, `float16` or `int8` (matrices alone, with a scale a
                row); None keeps their type.
            share_with: a bundled reader; weights that it has, as they are stored, aren't stored again, and
                neither is its tokenizer. None stores all of them.

        Raises:
            UsageError: another `dtype`, a weight that is too large for it, or no bundled reader.
        """
        if share_with is not None and share_with not in assets.READERS:
            known = ", ".join(assets.READERS)
            raise UsageError(f"share_with is {share_with!r}; expected a bundled reader ({known}), or None")
        kind = None if dtype in (None, "int8") else checkpoint.type_of(dtype)
        tensors = {
            name: p.detach().to(kind or p.dtype).cpu().contiguous() for name, p in self.named_parameters()
        }
        for name, p in self.named_parameters():
            if p.dtype != tensors[name].dtype and checkpoint.is_finite(p.detach()):
                _require_kept(name, tensors[name])
        if dtype == "int8":
            tensors = checkpoint.rounded(tensors)
        checkpoint.save_tensors(
            tensors, self.config, self.tokenizer, Path(directory), self.calibration, share_with
        )

    def push_to_hub(self, name: str, *, private: bool = False) -> None:
        """Upload the saved reader to the Hugging Face hub as `name`."""
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            checkpoint.upload(Path(folder), name, private=private)

    def fingerprint(self) -> str:
        """SHA-256 over config, tokenizer and weights: equal readers, equal fingerprints."""
        return checkpoint.fingerprint(self.config, self.tokenizer, self.named_parameters())


class HeadBias(nn.Module):
    """A number a token, `weight` [V], that its logit begins with."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(vocabulary))

    def draw(self, generator: torch.Generator | None) -> None:
        """All tokens begin alike."""
        self.weight.zero_()


class _Head(nn.Module):
    """T5 v1.1: a matrix of its own."""

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.decoder.width, config.vocabulary_size, bias=config.head_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class _TiedHead(nn.Module):
    """T5 v1.0: the decoder's embedding, scaled by width ** -0.5."""

    def __init__(self, config: ReaderConfig, embedding: TargetEmbedding) -> None:
        super().__init__()
        self.embedding = embedding
        self.bias = HeadBias(config.vocabulary_size) if config.head_bias else None

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.weight
        return F.linear(x * x.shape[-1] ** -0.5, self.embedding.weight, bias)


def _require_kept(name: str, converted: Tensor) -> None:
    if not checkpoint.is_finite(converted):
        kind = str(converted.dtype).removeprefix("torch.")
        raise UsageError(f"{name} has weights too large for {kind}; give dtype bfloat16 or float32")


def parameter_count(config: ReaderConfig) -> int:
    """Parameters of a reader, without allocating them."""
    return sum(p.numel() for p in Reader.without_weights(config).parameters())
