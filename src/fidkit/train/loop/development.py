"""Answers development questions while training."""

from __future__ import annotations

import torch

from fidkit.context import collate
from fidkit.engine.generation.generate import greedy
from fidkit.errors import DataError
from fidkit.evaluate.metrics import exact_match, f1
from fidkit.questions.files import read_questions
from fidkit.reader import Reader
from fidkit.train.data.questions import join_passages, read_ranked
from fidkit.train.recipe import Recipe
from fidkit.types import Passage

BATCH = 32


class Development:
    """The first questions of each evaluation file that have passages to read, joined once."""

    def __init__(self, recipe: Recipe, passages: dict[str, Passage]) -> None:
        self.spec, self.bf16 = recipe.evaluation, recipe.precision == "bf16"
        self.sets = {name: self._load(recipe, name, passages) for name in self.spec.files}

    def _load(
        self, recipe: Recipe, name: str, passages: dict[str, Passage]
    ) -> list[tuple[str, tuple[str, ...], list[Passage]]]:
        file = self.spec.retrieved.get(name)
        ranked = read_ranked(recipe.path(file)) if file else {}
        chosen = []
        for question in read_questions(recipe.path(self.spec.files[name])):
            item = join_passages(question, passages, ranked, verbatim=False)
            if item is None:
                continue
            listed = (
                item.positives[:1] if self.spec.context == "positive" else item.ranked[: self.spec.passages]
            )
            if listed:
                chosen.append((question.question, question.answers, list(listed)))
            if len(chosen) == self.spec.limit:
                break
        if not chosen:
            raise DataError(
                f"{recipe.path(self.spec.files[name])}: no question with {self.spec.context} passages, "
                "so nothing to evaluate on; check `passages` and `evaluation.retrieved`"
            )
        return sorted(chosen, key=lambda item: max(len(p.text) for p in item[2]))

    def scores(self, reader: Reader) -> dict[str, dict[str, float]]:
        """EM and F1 (percent) of each set."""
        reader.eval()
        return {name: self._score(reader, items) for name, items in self.sets.items()}

    def _score(
        self, reader: Reader, items: list[tuple[str, tuple[str, ...], list[Passage]]]
    ) -> dict[str, float]:
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
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                generated = greedy(reader, reader.read(batch))
            for (_, answers, _), ids in zip(part, generated.ids_BT.tolist(), strict=True):
                text = tokenizer.decode([i for i in ids if i >= 0])
                em += exact_match(text, answers)
                overlap += f1(text, answers)
        return {"em": round(100 * em / len(items), 2), "f1": round(100 * overlap / len(items), 2)}
