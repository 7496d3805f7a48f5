"""What a reader is trained for: the losses of one part of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fidkit.context import IGNORED, Batch, Context
from fidkit.errors import ConfigError
from fidkit.nn.decoder import LayerProbe
from fidkit.nn.encoder import EncoderLayers, Run
from fidkit.reader import Reader
from fidkit.train.data.examples import Example, collate_examples
from fidkit.train.losses.auxiliary import Auxiliary, Places, find_places
from fidkit.train.losses.distillation import answer_likelihoods, perplexity_distillation
from fidkit.train.losses.relevance import holding, relevance_loss
from fidkit.train.losses.teacher import Teacher, check_states, state_distillation, token_distillation
from fidkit.train.recipe import Recipe
from fidkit.train.specs import StageSpec

SUMMED = ("answer", "distil")
"""Losses that are sums over target tokens; all others are means over questions."""


class Objectives:
    """The losses that a recipe's stages want of a reader.

    Args:
        recipe: its stages, and the precision of activations.
        reader: to be trained.
        auxiliary: of that reader.
        run: how its encoder layers are run.

    Raises:
        CheckpointError: no such teacher.
        ConfigError: a stage trains what the reader lacks, or the teacher has another vocabulary.
    """

    def __init__(
        self, recipe: Recipe, reader: Reader, auxiliary: Auxiliary, run: Run = EncoderLayers.__call__
    ) -> None:
        self.recipe, self.reader, self.auxiliary, self.run = recipe, reader, auxiliary, run
        _check_stages(recipe, reader)
        self.teacher: Teacher | None = None
        if recipe.teacher is not None:
            name = recipe.teacher.reader
            self.teacher = Teacher(Reader.from_pretrained(name), reader, name)
            if read := [stage.passages for stage in recipe.stages if stage.states]:
                check_states(self.teacher.reader.config, reader.config, max(read))

    def taught(self, part: Sequence[Example], stage: StageSpec) -> list[Example]:
        """The part with the targets that the stage wants."""
        if self.teacher is None or stage.targets == "answers" or not part:
            return list(part)
        device = self.reader.embedding.weight.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            return self.teacher.answers(part, self.recipe.target_tokens)

    def losses(self, part: Sequence[Example], stage: StageSpec) -> dict[str, Tensor]:
        """Cross-entropy of the answers (`answer`) where the decoder is run, and what else the stage wants.

        Those in `SUMMED` are sums over target tokens, the others means over the part's questions.
        """
        device = self.reader.embedding.weight.device
        batch = collate_examples(part).to(device)
        assert batch.labels is not None
        losses = {}
        with torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            memory_XD = self.reader.encode_passages(batch.passage_ids, batch.passage_lengths, self.run)
            places = None
            if stage.needs_places:
                places = find_places([e.passages for e in part], [e.target for e in part]).to(device)
            # First: auxiliary losses are about what the reader read last.
            itself = stage.rerank and not stage.ranks_by_answer
            wanted_BN = answer_likelihoods(self.reader, batch, memory_XD) if itself else None
            context = self.reader.read_memory(batch, memory_XD, self.run)
            if stage.rerank:
                losses["rerank"] = _ranking_loss(context.scores_BN, wanted_BN, places, stage)
            wanted = self.teacher.read(batch) if self.teacher and (stage.distil or stage.states) else None
            if wanted is not None and stage.states:
                losses["states"] = state_distillation(context, wanted, self.reader.config.encoder.width)
            if stage.decodes:
                probe = self.auxiliary.probe if stage.auxiliaries else None
                losses |= self._target_losses(batch, context, wanted, stage, probe)
            if stage.auxiliaries and places is not None:
                losses |= self.auxiliary.losses(batch, context, places, stage.auxiliaries)
        # A batch that nothing is found in still has a gradient, of zeros: processes wait for one another's.
        return losses or {"pointer": 0.0 * context.states_BMD.float().sum()}

    def _target_losses(
        self,
        batch: Batch,
        context: Context,
        wanted: Context | None,
        stage: StageSpec,
        probe: LayerProbe | None,
    ) -> dict[str, Tensor]:
        """What is summed over target tokens; `wanted` is what the teacher has read."""
        labels_BT = batch.labels
        assert labels_BT is not None
        if self.teacher is None or wanted is None or not stage.distil:
            return {"answer": self.reader.answer_loss(labels_BT, context, probe)}
        real = labels_BT != IGNORED
        logits_KV = self.reader.decode(labels_BT, context, probe)[real]
        wanted_KV = self.teacher.logits(batch, wanted)[real]
        return {
            "answer": F.cross_entropy(logits_KV, labels_BT[real], reduction="sum"),
            "distil": token_distillation(logits_KV, wanted_KV, stage.distil_temperature),
        }


def _ranking_loss(
    scores_BN: Tensor | None, wanted_BN: Tensor | None, places: Places | None, stage: StageSpec
) -> Tensor:
    """Of the scores of all passages, by how likely they make the answer or by where it stands."""
    assert scores_BN is not None, "a stage that reranks is refused to a reader that doesn't"
    if wanted_BN is not None:
        return perplexity_distillation(scores_BN, wanted_BN, stage.rerank_temperature)
    assert places is not None, "a stage ranks by the one or by the other"
    return relevance_loss(scores_BN, holding(places, scores_BN))


def weighted(losses: Mapping[str, Tensor], stage: StageSpec, fade: float = 1.0) -> Tensor:
    """The sum of all losses as the stage weighs them.

    Args:
        losses: by name, each a mean.
        stage: has the weights.
        fade: of the auxiliary losses.
    """
    weights = {name: getattr(stage, name) for name in ("answer", "distil", "states", "rerank")}
    weights |= {str(name): fade * weight for name, weight in stage.auxiliaries.items()}
    terms = [weights.get(name, 0.0) * value for name, value in losses.items()]
    return torch.stack(terms).sum()


def _check_stages(recipe: Recipe, reader: Reader) -> None:
    """Refuse a stage that distils into scores of a reader that has none."""
    for number, stage in enumerate(recipe.stages, 1):
        if stage.rerank and reader.config.rerank is None:
            raise ConfigError(
                f"stage {number} has rerank = {stage.rerank:g}, but the reader doesn't rerank; start from a "
                "preset such as glimmer-base, or from a reader made by `fidkit convert --rerank-after`"
            )
