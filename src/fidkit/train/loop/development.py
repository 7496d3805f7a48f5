"""Answers development questions while training."""

from __future__ import annotations

import logging
from collections import Counter

import torch

from fidkit.context import collate
from fidkit.engine.generation.generate import greedy
from fidkit.errors import DataError
from fidkit.evaluate.metrics import exact_match, f1
from fidkit.questions.files import read_questions
from fidkit.reader import Reader
from fidkit.train.data.questions import Ranked, join_passages
from fidkit.train.passages import PassageTable, Say
from fidkit.train.recipe import Recipe
from fidkit.types import Passage

Asked = tuple[str, tuple[str, ...], list[Passage]]
"""A question, its answers, and the passages to read."""
BATCH = 32
logger = logging.getLogger(__name__)


class Development:
    """The first questions of each evaluation file that have passages to read, joined once.

    Args:
        recipe: its `evaluation`.
        table: the recipe's passages.
        say: told how many questions were left out, and why.

    Raises:
        DataError: a file is malformed, or none of its questions has passages.
    """

    def __init__(self, recipe: Recipe, table: PassageTable, say: Say = logger.info) -> None:
        self.spec, self.bfloat16 = recipe.evaluation, recipe.precision == "bfloat16"
        ranked = Ranked(recipe, table, say)
        self.sets = {name: self._load(recipe, name, ranked, say) for name in self.spec.files}

    def _load(self, recipe: Recipe, name: str, ranked: Ranked, say: Say) -> list[Asked]:
        path, spec = recipe.path(self.spec.files[name]), self.spec
        found = ranked.of([spec.retrieved[name]] if name in spec.retrieved else [])
        chosen, left_out = list[Asked](), Counter[str]()
        for question in read_questions(path):
            item = join_passages(question, ranked.table, found, verbatim=False)
            refs = item.positives[:1] if spec.context == "positive" else item.ranked[: spec.passages]
            if item.targets and refs:
                chosen.append((question.question, question.answers, ranked.table.fetch(refs)))
            else:
                left_out[f"without {spec.context} passages" if item.targets else "without answers"] += 1
            if len(chosen) == spec.limit:
                break
        counts = ", ".join(f"{count:,} {why}" for why, count in left_out.items())
        if not chosen:
            raise DataError(
                f"{path}: no question with {spec.context} passages, so nothing to evaluate on "
                f"({counts or 'no questions'}); check `passages` and `evaluation.retrieved`"
            )
        if left_out:
            looked_at = len(chosen) + left_out.total()
            say(f"evaluation {name!r}: {left_out.total():,} of {looked_at:,} questions left out: {counts}")
        return sorted(chosen, key=lambda item: max(len(p.text) for p in item[2]))

    def scores(self, reader: Reader) -> dict[str, dict[str, float]]:
        """EM and F1 (percent) of each set."""
        reader.eval()
        return {name: self._score(reader, items) for name, items in self.sets.items()}

    def _score(self, reader: Reader, items: list[Asked]) -> dict[str, float]:
        tokenizer = reader.tokenizer
        assert tokenizer is not None
        em = overlap = 0.0
        for start in range(0, len(items), BATCH):
            part = items[start : start + BATCH]
            batch = collate(
                [tokenizer.question(q).ids for q, _, _ in part], [tokenizer.passages(p) for *_, p in part]
            )
            device = reader.embedding.weight.device
            batch = batch.to(device)
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16):
                generated = greedy(reader, reader.read(batch))
            for (_, answers, _), ids in zip(part, generated.ids_BT.tolist(), strict=True):
                text = tokenizer.decode([i for i in ids if i >= 0])
                em += exact_match(text, answers)
                overlap += f1(text, answers)
        return {"em": round(100 * em / len(items), 2), "f1": round(100 * overlap / len(items), 2)}
