"""Distillation from a teacher: its distribution, its answers, and only of one vocabulary."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fidkit.config import RerankConfig
from fidkit.context import IGNORED
from fidkit.convert import reshape
from fidkit.errors import CheckpointError, ConfigError
from fidkit.preset import named
from fidkit.reader import Reader
from fidkit.tokens import Tokenizer
from fidkit.train.data.examples import Example, collate_examples
from fidkit.train.data.vocabulary import assemble
from fidkit.train.loop.training import Trainer
from fidkit.train.losses.auxiliary import Auxiliary
from fidkit.train.losses.objectives import Objectives, weighted
from fidkit.train.losses.teacher import Teacher, check_states, state_distillation, token_distillation
from fidkit.train.recipe import Recipe
from fidkit.train.specs import StageSpec
from train.loop.test_training import Killed, assert_same_run, killed_after
from train.toy import world

EXAMPLES = [
    Example([301, 302], [[500, 501, 1], [502, 1]], [600, 601, 1]),
    Example([303, 304, 305], [[503, 504, 505, 1]], [602, 1]),
]


def tiny(seed: int, name: str = "tiny-fid") -> Reader:
    """A reader whose answers differ from question to question: sharper than fresh ones."""
    reader = Reader.from_preset(name, seed)
    with torch.no_grad():
        for parameter in reader.parameters():
            parameter.mul_(1.5)
    return reader


# The loss


def test_the_loss_is_the_divergence_of_the_two_distributions() -> None:
    ours, theirs = torch.randn(2, 7, 11, generator=torch.Generator().manual_seed(0))
    for temperature in (0.5, 1.0, 3.0):
        expected = torch.distributions.kl_divergence(
            *(torch.distributions.Categorical(logits=x / temperature) for x in (theirs, ours))
        )
        found = token_distillation(ours, theirs, temperature)
        torch.testing.assert_close(found, temperature**2 * expected.sum())


def test_padding_of_a_vocabulary_makes_no_difference() -> None:
    ours, theirs = torch.randn(2, 5, 9, generator=torch.Generator().manual_seed(1))
    padded = torch.cat([ours, torch.full((5, 3), 8.0)], 1)
    torch.testing.assert_close(token_distillation(padded, theirs), token_distillation(ours, theirs))
    torch.testing.assert_close(token_distillation(theirs, padded), token_distillation(theirs, ours))


def gradients(reader: Reader, teacher: Reader, **settings: Any) -> tuple[dict[str, float], float]:
    """Losses and the norm of the gradient of what they add up to."""
    stage = StageSpec(**{"steps": 1, "mix": {"facts": 1.0}, "answer": 0.0, "distil": 1.0} | settings)
    recipe = Recipe.model_validate(
        {
            "output": "x",
            "reader": {"preset": "tiny-fid"},
            "tasks": {"facts": {"kind": "cloze"}},
            "stages": [{"steps": 1, "mix": {"facts": 1.0}}],
        }
    )
    objectives = Objectives(recipe, reader, Auxiliary(reader))
    objectives.teacher = Teacher(teacher, reader)
    losses = objectives.losses(EXAMPLES, stage)
    reader.zero_grad()
    weighted(losses, stage).backward()
    squares = [p.grad.square().sum() for p in reader.parameters() if p.grad is not None]
    return {k: float(v.detach()) for k, v in losses.items()}, float(torch.stack(squares).sum().sqrt())


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_nothing_is_learnt_from_oneself(temperature: float) -> None:
    losses, norm = gradients(tiny(1), tiny(1), distil_temperature=temperature)
    assert losses["distil"] == pytest.approx(0, abs=1e-4)
    assert losses["answer"] > 1
    other, large = gradients(tiny(2), tiny(1), distil_temperature=temperature)
    assert other["distil"] > 0.1
    assert norm < 1e-3 * large


def test_the_weights_of_a_stage_weigh() -> None:
    both, _ = gradients(tiny(2), tiny(1), answer=0.25, distil=2.0)
    _, answer_alone = gradients(tiny(2), tiny(1), answer=1.0, distil=0.0)
    _, quarter = gradients(tiny(2), tiny(1), answer=0.25, distil=0.0)
    assert quarter == pytest.approx(answer_alone / 4, rel=1e-4)
    stage = StageSpec(steps=1, mix={"facts": 1.0}, answer=0.25, distil=2.0)
    total = weighted({k: torch.tensor(v) for k, v in both.items()}, stage)
    assert float(total) == pytest.approx(0.25 * both["answer"] + 2 * both["distil"], rel=1e-5)
    aside = StageSpec(steps=1, mix={"facts": 1.0}, auxiliary=0.5)
    found = weighted({"answer": torch.tensor(1.0), "guide": torch.tensor(8.0)}, aside, fade=0.5)
    assert float(found) == 3.0


def test_a_teacher_may_be_another_reader_but_is_never_trained() -> None:
    student, teacher = tiny(1), Reader.from_preset("tiny-fido", 2)
    before = {name: p.clone() for name, p in teacher.named_parameters()}
    losses, norm = gradients(student.train(), teacher.train())
    assert losses["distil"] > 0.1
    assert norm > 0
    assert not teacher.training
    assert all(p.grad is None and torch.equal(p, before[name]) for name, p in teacher.named_parameters())


def test_an_answer_costs_the_same_with_and_without_a_teacher() -> None:
    with_teacher, _ = gradients(tiny(2), tiny(1), answer=1.0)
    without, _ = gradients(tiny(2), tiny(1), answer=1.0, distil=0.0)
    assert "distil" not in without
    assert with_teacher["answer"] == pytest.approx(without["answer"], rel=1e-5)


# States


def test_states_are_compared_vector_by_vector_and_question_by_question() -> None:
    student, teacher = tiny(2), tiny(1)
    losses, norm = gradients(student, teacher, distil=0.0, states=2.0)
    assert losses.keys() == {"states"}  # the decoder isn't run
    distances = []
    for example in EXAMPLES:
        ours, theirs = (r.read(collate_examples([example])).states_BMD[0] for r in (student, teacher))
        distances.append((ours - theirs).square().mean())
    assert losses["states"] == pytest.approx(float(torch.stack(distances).mean()), rel=1e-4)
    torch.stack(distances).mean().backward()
    assert norm > 0
    same, none = gradients(tiny(1), tiny(1), distil=0.0, states=2.0)
    assert same["states"] == pytest.approx(0, abs=1e-8)
    assert none == pytest.approx(0, abs=1e-4)


def test_tokens_beside_states_are_none_of_them() -> None:
    config = named("tiny-fid").replace(token_skip=True)
    student, teacher = Reader(config).eval(), Reader(config).eval()
    for seed, reader in enumerate((student, teacher)):
        reader.reset_parameters(torch.Generator().manual_seed(seed))
        reader.tokenizer = Tokenizer.bundled(config)
    losses, _ = gradients(student, teacher, distil=0.0, states=1.0)
    batch, width = collate_examples(EXAMPLES[:1]), config.encoder.width
    seen = [reader.read(batch).states_BMD[0] for reader in (student, teacher)]
    assert seen[0].shape[-1] == 3 * width
    alone = (seen[0] - seen[1])[:, :width].square().mean()
    [first] = EXAMPLES[:1]
    context = student.read(collate_examples([first])), teacher.read(collate_examples([first]))
    assert float(state_distillation(*context, width)) == pytest.approx(float(alone), rel=1e-5)
    assert losses["states"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question_in_context": "once"}, "question_in_context is once there and each here"),
        ({"kept_vectors": 2}, "kept_vectors is 2 there and None here"),
        ({"rerank": {"after": 1, "keep": 2}}, "of 3 passages the teacher keeps 2"),
    ],
)  # fmt: skip
def test_a_teacher_with_other_vectors_is_refused(changes: dict[str, Any], message: str) -> None:
    ours = named("tiny-fid")
    theirs = ours.replace(**changes)
    with pytest.raises(ConfigError, match=message):
        check_states(theirs, ours, 3)
    check_states(ours, ours, 3)
    keeping = ours.replace(rerank={"after": 1, "keep": 3})
    check_states(keeping, ours, 3)
    with pytest.raises(ConfigError, match="of 4 passages the reader keeps 3"):
        check_states(ours, keeping, 4)
    wider = ours.replace(shared_embedding=False, encoder=ours.encoder.replace(width=2 * ours.encoder.width))
    with pytest.raises(ConfigError, match=r"states of the teacher are \d+ wide, the reader's \d+"):
        check_states(wider, ours, 1)


def test_the_stage_that_reads_most_decides_what_is_kept(tmp_path: Path) -> None:
    tiny(1).save_pretrained(tmp_path / "teacher")
    keeping, _ = reshape(tiny(2), rerank=RerankConfig(after=1, keep=3))
    stages = [{"steps": 1, "mix": {"facts": 1.0}, "passages": n, "states": 1.0} for n in (1, 4, 2)]
    recipe = {
        "output": "x",
        "reader": {"preset": "tiny-fid"},
        "teacher": {"reader": str(tmp_path / "teacher")},
        "tasks": {"facts": {"kind": "cloze"}},
        "stages": stages,
    }
    with pytest.raises(ConfigError, match="of 4 passages the reader keeps 3"):
        Objectives(Recipe.model_validate(recipe), keeping, Auxiliary(keeping))


# Answers as targets


def test_targets_are_the_teachers_greedy_answers() -> None:
    reader = tiny(1)
    teacher = Teacher(reader, tiny(2))
    text = Example([], [[500, 3, 1]], [3, 501, 1])
    for limit in (3, 24):
        for given, taught in zip([*EXAMPLES, text], teacher.answers([*EXAMPLES, text], limit), strict=True):
            expected = written(reader, given, limit) if given.question else None
            if expected and expected[-1] == reader.config.end_token:
                assert taught.target == expected
            else:
                assert taught == given
            assert (taught.question, taught.passages) == (given.question, given.passages)
    assert teacher.answers([], 5) == []


def written(reader: Reader, example: Example, limit: int) -> list[int]:
    """Greedy, the slow way: all targets so far through the decoder, again and again."""
    target: list[int] = []
    while len(target) < limit and reader.config.end_token not in target:
        batch = collate_examples([Example(example.question, example.passages, [*target, 0])])
        with torch.no_grad():
            target.append(int(reader(batch).logits[0, -1].argmax()))
    return target


def ending(seed: int) -> Reader:
    """A teacher that ends most of its answers: it has few tokens to choose from."""
    reader = tiny(seed)
    with torch.no_grad():
        # Nothing but a few tokens is ever likely.
        reader.head_weight[8:] *= 0.01
        reader.head_weight[0] *= 0.01
    return reader


def test_a_teacher_that_ends_its_answers_is_followed() -> None:
    reader = ending(0)
    taught = Teacher(reader, tiny(2)).answers(EXAMPLES, 24)
    expected = [written(reader, example, 24) for example in EXAMPLES]
    ended = [target[-1] == reader.config.end_token for target in expected]
    assert sorted(ended) == [False, True]
    for one, target, given, ends in zip(taught, expected, EXAMPLES, ended, strict=True):
        assert one.target == (target if ends else given.target)


# One vocabulary


def of_vocabulary(pieces: list[tuple[str, float]] | None) -> Reader:
    settings = named("tiny-fid")
    return Reader(settings, None if pieces is None else Tokenizer(assemble(pieces), settings))


def test_a_teacher_of_another_vocabulary_is_refused() -> None:
    student = Reader.from_preset("tiny-fid")
    with pytest.raises(ConfigError, match=r"teacher T: has another vocabulary \(361 tokens, the reader 16,"):
        Teacher(of_vocabulary([("▁a", -1.0), ("▁b", -2.0)]), student, "T")
    same = [("▁a", -1.0), ("▁b", -2.0)]
    Teacher(of_vocabulary(same), of_vocabulary(same))
    with pytest.raises(ConfigError, match="359 are the same"):
        Teacher(of_vocabulary(same[::-1]), of_vocabulary(same))
    with pytest.raises(ConfigError, match=r"teacher T: has no tokenizer\.json"):
        Teacher(of_vocabulary(None), student, "T")


def test_a_teacher_that_ends_with_another_token_is_refused() -> None:
    student, settings = Reader.from_preset("tiny-fid"), named("tiny-fid").replace(end_token=2)
    with pytest.raises(ConfigError, match=r"end of sequence are tokens \(0, 2\), the reader's \(0, 1\)"):
        Teacher(Reader(settings, Tokenizer.bundled(settings)), student)


# In a recipe


def taught_world(folder: Path, **stage: Any) -> Recipe:
    """A recipe with a teacher in its folder."""
    folder.mkdir(exist_ok=True)
    ending(9).save_pretrained(folder / "teacher")
    values = "".join(f", {key} = {value!r}" for key, value in stage.items())
    stages = f"stages=[{{ steps = 4, questions = 3, mix = {{ facts = 1.0 }}{values} }}]"
    return world(folder, f"teacher.reader={folder / 'teacher'}", stages)


@pytest.mark.slow
def test_a_distilled_run_logs_its_loss_and_resumes_bit_by_bit(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings = {"distil": 1.0, "distil_temperature": 2.0, "targets": "teacher"}
    rows: list[dict[str, Any]] = []
    Trainer(taught_world(whole, **settings), rows.append).run()
    assert all(row["distil"] > 0 and row["loss"] > 0 for row in rows if row["kind"] == "train")
    with pytest.raises(Killed):
        Trainer(taught_world(killed, **settings), killed_after(3)).run()
    Trainer(taught_world(killed, **settings)).run()
    assert_same_run(whole, killed)


@pytest.mark.slow
def test_a_student_comes_to_write_as_its_teacher_does(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    recipe = taught_world(tmp_path, distil=1.0, answer=0.0).replace(dropout=0.0)
    recipe = recipe.replace(
        optimiser={"rate": 1e-2, "warmup": 2}, stages=[{**recipe.stages[0].model_dump(), "steps": 30}]
    )
    Trainer(recipe, rows.append).run()
    losses = [row["distil"] for row in rows if row["kind"] == "train"]
    assert losses[-1] < 0.5 * losses[0]


def test_a_recipe_needs_the_teacher_that_its_stages_want(tmp_path: Path) -> None:
    for settings in ({"distil": 1.0}, {"states": 1.0}, {"targets": "teacher"}):
        with pytest.raises(ConfigError, match=r"stage 1 learns from a teacher; name one as `teacher\."):
            taught_world(tmp_path, **settings).replace(teacher=None)
    with pytest.raises(ConfigError, match="answer, distil, states, rerank and auxiliary are all 0"):
        taught_world(tmp_path, answer=0.0)


def test_a_missing_teacher_is_named_before_a_run_is_claimed(tmp_path: Path) -> None:
    recipe = taught_world(tmp_path, distil=1.0).replace(teacher={"reader": str(tmp_path / "nobody")})
    with pytest.raises(CheckpointError, match="nobody"):
        Trainer(recipe)
    assert not (tmp_path / "run").exists()


def test_labels_beyond_the_end_are_no_targets() -> None:
    assert (collate_examples(EXAMPLES).labels == IGNORED).tolist() == [[False] * 3, [False, False, True]]
