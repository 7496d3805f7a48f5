"""The parts of a recipe: reader, tasks, stages, teacher, optimiser, health, evaluation.

Every key is checked; `fidkit.train.recipe` has the whole.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from fidkit.config import Strict

Part = Literal["embedding", "encoder", "decoder", "auxiliary"]
"""What may have a rate of its own: tables of tokens; the rest of all encoders; the rest of the decoder, and
the weights of scores; the auxiliary heads."""
AuxiliaryLoss = Literal["guide", "pointer", "overlap"]
EvaluationContext = Literal["positive", "retrieved", "foreign"]
Unread = Literal["near", "retrieved", "foreign"]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ReaderSpec(Strict):
    """Where the reader comes from: random weights of a `preset`, or a trained one at `start`.

    Attributes:
        preset: name of a configuration.
        start: directory, bundled name or hub name to go on from.
        initialisation: of a preset's weights: T5's, or T5's with heads that match and copy
            (`fidkit.train.matching`).
        matching_layer: encoder layer, from 0, where these heads begin; absent means the first live one.
        changes: configuration keys that differ from the preset's, or from the trained reader's where they
            shape no weight.
    """

    preset: str | None = None
    start: str | None = None
    initialisation: Literal["t5", "matching"] = "t5"
    matching_layer: int | None = None
    changes: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_origin(self) -> ReaderSpec:
        if (self.preset is None) == (self.start is None):
            raise ValueError("give either a preset (random weights) or a reader to start from")
        return self


class TaskSpec(Strict):
    """What examples are drawn from.

    Attributes:
        kind: `questions` from files; made of the passages, `cloze` questions or questions about a span that
            is `recurring` in others; or text to restore (`span-corruption`).
        files: FiD JSON or JSONL; documents for `span-corruption`, as for `passages`.
        retrieved: JSONL of `{"id", "ctx_ids"}`, ranked passage ids for questions without `ctxs`.
        where: keep records whose key has one of these values.
        verbatim: keep a question only with a passage that holds an answer word for word, and train
            on the form that stands there.
        unanswerable: train to answer nothing, with an empty target, and read what holds no answer: passages
            `near` the question's topic (`near_ids`, or others of its document), `retrieved` ones, or
            `foreign` ones, of other questions; of several kinds one is drawn for each question. Passages
            that are known to hold an answer are left out, so that questions with answers serve too. Absent
            trains no question without an answer.
        dataset: to restore text of: a name on the Hugging Face hub, or a format such as `json` or `text` for
            `files`; streamed by the library datasets (extra `datasets`).
        subset, split, column: of the dataset; where the text is.
        input_tokens: most tokens of a text with spans taken out.
        corrupted: share of a text's tokens that is taken out.
        mean_span: tokens of a span that is taken out, on average.
    """

    kind: Literal["questions", "cloze", "recurring", "span-corruption"]
    files: list[str] = []
    retrieved: list[str] = []
    where: dict[str, list[str]] = {}
    verbatim: bool = False
    unanswerable: list[Unread] = []
    dataset: str | None = None
    subset: str | None = None
    split: str = "train"
    column: str = "text"
    input_tokens: int = Field(default=512, ge=8)
    corrupted: float = Field(default=0.15, gt=0, lt=1)
    mean_span: float = Field(default=3.0, ge=1)

    @model_validator(mode="after")
    def _has_an_origin(self) -> TaskSpec:
        if self.dataset is not None and self.kind != "span-corruption":
            raise ValueError(f'a dataset is for kind = "span-corruption"; give a task of {self.kind} `files`')
        if self.kind == "questions" and not self.files:
            raise ValueError("a task of questions needs `files`")
        if self.kind == "span-corruption" and not self.files and self.dataset is None:
            raise ValueError("a task of text to restore needs `files` or a `dataset`")
        if self.unanswerable and (self.kind != "questions" or self.verbatim):
            raise ValueError(
                'unanswerable is for kind = "questions", and not with `verbatim`: no answer stands anywhere'
            )
        return self


class StageSpec(Strict):
    """A stretch of training.

    Attributes:
        steps: optimiser steps.
        questions: of one batch.
        accumulate: batches of one step, whose gradients add up as if they were one batch.
        mix: task name to weight; how often examples are drawn from each.
        passages: N, read for each question.
        context: `positive` reads passages that hold an answer, filled up to N with retrieved ones that
            do not, shuffled; `retrieved` reads the first N as ranked.
        hardest: how often the other passages beside a positive one are the first that were retrieved; the
            others are drawn from the first 3 N.
        fill: where fewer than N passages were retrieved, read others of the same document, then those of
            other questions.
        sentences: cut positive passages to a window of so many sentences; absent means whole.
        noise, removed: of cloze questions, see `fidkit.train.data.cloze.make_cloze`.
        auxiliary: weight of the auxiliary losses (`guide`, `pointer`, `overlap`): of all, or of each by its
            name; 0 leaves them out.
        rerank: weight of the loss of the passages' scores, in a reader that reranks; 0 leaves it out.
        rerank_by: what scores learn from: how likely each passage alone makes the answer (`likelihood`,
            perplexity distillation), or in which passages the `answer` stands.
        rerank_temperature: of perplexity distillation; see `fidkit.train.losses.distillation`.
        answer: weight of the answer's cross-entropy. Where it is 0, with nothing to distil and no `guide`,
            the decoder is not even run.
        distil: weight of the divergence from the teacher's distribution over tokens; 0 leaves it out.
        distil_temperature: see `fidkit.train.losses.teacher`.
        states: weight of the squared distance from the vectors that the teacher's decoder reads, for a reader
            that is to stand in for the teacher's encoder; 0 leaves it out.
        rate: what the optimiser's rate is multiplied by.
        targets: to be written: the questions' `answers`, or what the `teacher` answers.
    """

    steps: int = Field(ge=1)
    questions: int = Field(default=28, ge=1)
    accumulate: int = Field(default=1, ge=1)
    mix: dict[str, float]
    passages: int = Field(default=1, ge=1)
    context: Literal["positive", "retrieved"] = "positive"
    hardest: float = Field(default=0.0, ge=0, le=1)
    fill: bool = False
    sentences: int | None = Field(default=None, ge=1)
    noise: float = Field(default=0.0, ge=0, le=1)
    removed: float = Field(default=0.0, ge=0, le=1)
    auxiliary: Weight | dict[AuxiliaryLoss, Weight] = 0.0
    rerank: float = Field(default=0.0, ge=0)
    rerank_by: Literal["likelihood", "answer"] = "likelihood"
    rerank_temperature: float = Field(default=1.0, gt=0)
    answer: float = Field(default=1.0, ge=0)
    distil: float = Field(default=0.0, ge=0)
    distil_temperature: float = Field(default=1.0, gt=0)
    states: float = Field(default=0.0, ge=0)
    rate: float = Field(default=1.0, gt=0)
    targets: Literal["answers", "teacher"] = "answers"

    @model_validator(mode="after")
    def _draws_from_something(self) -> StageSpec:
        weights = self.mix.values()
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not sum(weights) > 0:
            shown = ", ".join(f"{name} = {weight:g}" for name, weight in self.mix.items())
            raise ValueError(
                f"mix is {{{shown}}}; expected a task with a weight above 0, and none below, such as "
                "mix = { questions = 1.0 }"
            )
        return self

    @model_validator(mode="after")
    def _learns_something(self) -> StageSpec:
        if not (self.answer or self.distil or self.states or self.rerank or self.auxiliaries):
            raise ValueError(
                "answer, distil, states, rerank and auxiliary are all 0, so that nothing would be learnt"
            )
        return self

    @property
    def auxiliaries(self) -> dict[AuxiliaryLoss, float]:
        """Weights of the auxiliary losses that are not left out."""
        given = self.auxiliary
        weights = given if isinstance(given, dict) else dict.fromkeys(get_args(AuxiliaryLoss), given)
        return {name: weight for name, weight in weights.items() if weight}

    @property
    def decodes(self) -> bool:
        """Whether anything that is learnt needs the decoder."""
        return bool(self.answer or self.distil or "guide" in self.auxiliaries)

    @property
    def ranks_by_answer(self) -> bool:
        """Whether scores are learnt from where answers stand."""
        return self.rerank > 0 and self.rerank_by == "answer"

    @property
    def needs_places(self) -> bool:
        """Whether anything is learnt from where answers stand."""
        return bool(self.auxiliaries) or self.ranks_by_answer

    @property
    def needs_teacher(self) -> bool:
        """Whether anything of this stage comes from a teacher."""
        return self.distil > 0 or self.states > 0 or self.targets == "teacher"


class TeacherSpec(Strict):
    """Whom the reader learns from, where stages `distil`, or have a teacher's `states` or `targets`.

    Attributes:
        reader: directory, bundled name or hub name; of the same vocabulary as the reader that is trained.
    """

    reader: str


class GuideSpec(Strict):
    """Which cross-attention the auxiliary loss `guide` teaches to look at the answer.

    Attributes:
        layers: the last so many with cross-attention.
        heads: the first so many of each, or `all`.
    """

    layers: int = Field(default=2, ge=1)
    heads: Annotated[int, Field(ge=1)] | Literal["all"] = 2


class OptimiserSpec(Strict):
    """The optimiser and its schedule: AdamW with warm-up and linear decay unless told otherwise.

    Attributes:
        kind: `adamw`; `adamw-scaled`, with the rate relative to the size of each parameter (nanoT5's);
            `hybrid`, FiDO's of Adafactor and Adam; `adafactor`, T5's.
        schedule: see `fidkit.train.loop.schedule.rate`.
        span: of the schedule: the `run`, or each `stage` by itself, with its own warm-up and decay.
        rate: highest learning rate; relative to the size of each parameter with all kinds but `adamw`.
        rates: what the rate is multiplied by in parts of the reader: `embedding` (tables of tokens),
            `encoder` (of questions, of memory and live, with their positions), `decoder`, `auxiliary` (heads
            of the auxiliary losses). 0 leaves a part as it is.
        warmup: steps of warm-up; with `inverse-sqrt`, steps before the rate falls.
        decay_from: fraction of all steps after which the rate falls; `linear` only.
        final: fraction of the rate that is left in the end; `linear` and `cosine`.
        betas, weight_decay: of AdamW of either kind; norms and position biases don't decay.
        decay: of the second moment; `hybrid` only.
        clip: largest norm of the gradient.
        moments: `carry` goes on from the second moments that stand beside the reader to start from, `fresh`
            from none.
    """

    kind: Literal["adamw", "adamw-scaled", "hybrid", "adafactor"] = "adamw"
    schedule: Literal["linear", "inverse-sqrt", "constant", "cosine"] = "linear"
    span: Literal["run", "stage"] = "run"
    rate: float = Field(default=1e-4, gt=0)
    rates: dict[Part, Weight] = {}
    warmup: int = Field(default=100, ge=0)
    decay_from: float = Field(default=0.6, ge=0, le=1)
    final: float = Field(default=0.05, ge=0, le=1)
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = Field(default=0.01, ge=0)
    decay: float = Field(default=0.999, gt=0, lt=1)
    clip: float = Field(default=1.0, gt=0)
    moments: Literal["carry", "fresh"] = "fresh"


class HealthSpec(Strict):
    """When a run is held to have diverged, and what is done then; see `fidkit.train.loop.health`.

    Attributes:
        window: steps whose losses are the ordinary ones.
        factor: spreads of the ordinary losses by which the loss may rise.
        restarts: times that a run goes back to its last healthy checkpoint; 0 never does.
        rate_factor: what the learning rate is multiplied by at each restart.
    """

    window: int = Field(default=100, ge=20)
    factor: float = Field(default=4.0, gt=0)
    restarts: int = Field(default=1, ge=0)
    rate_factor: float = Field(default=0.1, gt=0, le=1)


class EvaluationSpec(Strict):
    """Every so many steps, answer the first `limit` questions of each file; the mean F1 picks the best.

    Attributes:
        passages: retrieved ones that are read for a question.
        context: `positive` and `retrieved` as for stages, or `foreign`, a positive passage of another
            question; several ask each set several times. What is answered from foreign passages doesn't
            pick the best.
        forced: also judge answers whose first token may not end them; then these pick the best.
        unanswerable: files of questions without an answer, asked with the passages near them: how many are
            left without one is reported.
    """

    every: int = Field(default=500, ge=1)
    files: dict[str, str] = {}
    retrieved: dict[str, str] = {}
    unanswerable: dict[str, str] = {}
    limit: int = Field(default=200, ge=1)
    passages: int = Field(default=1, ge=1)
    context: EvaluationContext | list[EvaluationContext] = "positive"
    forced: bool = False

    @model_validator(mode="after")
    def _something_picks_the_best(self) -> EvaluationSpec:
        contexts = [self.context] if isinstance(self.context, str) else self.context
        if "positive" not in contexts and "retrieved" not in contexts:
            raise ValueError(
                'context leaves nothing to pick the best reader by; name "positive" or "retrieved", too'
            )
        if self.unanswerable and not self.files:
            raise ValueError("unanswerable goes with `files`, whose answers pick the best reader")
        if shared := sorted(self.files.keys() & self.unanswerable.keys()):
            raise ValueError(f"files and unanswerable both have a set {shared[0]!r}; call one differently")
        return self
