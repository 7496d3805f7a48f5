"""Atlas: a reader and a retriever in one `model.pth.tar`, with the options of the run instead of a config.

The reader is T5 v1.1 after language-model adaptation; Atlas' own subclasses leave T5's names as they are.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any, Unpack

from torch import Tensor

from fidkit.config import FORMAT_FIELDS, ReaderConfig, check_format
from fidkit.convert import files, pickles
from fidkit.convert.assemble import assemble
from fidkit.convert.guess import t5_record
from fidkit.convert.notes import Notes
from fidkit.convert.reshape import Knobs
from fidkit.convert.t5 import read_t5
from fidkit.errors import CheckpointError
from fidkit.reader import Reader

# Beside what it was made with, a checkpoint may say otherwise.
QUESTION_FORMAT = "question: {question} answer: <extra_id_0>"
ENCODER_FORMAT = "{query} title: {title} context: {text}"
QUERY = "{query} "


def import_atlas(directory: Path, **knobs: Unpack[Knobs]) -> tuple[Reader, Notes]:
    """The reader of an Atlas checkpoint; the retriever is left out.

    Raises:
        CheckpointError: not Atlas, tensors missing, unknown or of another shape, or pickled code.
        ConfigError: a shape that cannot be built.
    """
    where = str(directory / files.ATLAS)
    saved = pickles.read_pickle(directory / files.ATLAS, lazy=True)
    if not isinstance(saved, dict) or not isinstance(saved.get("model"), dict):
        raise CheckpointError(f"{where}: expected Atlas' keys model and opt, got {_shown(saved)}")
    tensors, notes = _reader_of(saved["model"], where)
    config, weights, more = read_t5(t5_record(tensors, where), tensors, where, source="its own shapes")
    config, formats = _with_formats(config, saved.get("opt"))
    return assemble(directory, config, weights, notes + more + formats, **knobs)


def _shown(saved: Any) -> str:
    return ", ".join(map(str, saved)) if isinstance(saved, dict) else type(saved).__name__


def _reader_of(model: dict[str, Any], where: str) -> tuple[dict[str, Tensor], Notes]:
    """T5's names: `reader.` taken off, and `module.`, which data parallelism puts behind it."""
    tensors, left, unknown = {}, 0, []
    for name, tensor in model.items():
        part, _, rest = name.removeprefix("module.").partition(".")
        if part == "reader":
            tensors[rest.removeprefix("module.")] = tensor.clone()
        elif part == "retriever":
            left += 1
        else:
            unknown.append(name)
    if unknown or not tensors:
        problem = f"unexpected {', '.join(sorted(unknown)[:5])}" if unknown else "no reader in it"
        raise CheckpointError(
            f"{where}: expected tensors named reader.… and retriever.…, but {problem}; give a "
            "checkpoint that Atlas saved with its reader"
        )
    remarks = (f"left out the retriever, {left} tensors",) if left else ()
    return tensors, Notes(remarks=remarks)


def _with_formats(config: ReaderConfig, options: Any) -> tuple[ReaderConfig, Notes]:
    """The texts that Atlas puts in front of the tokenizer, as its options say or by default."""
    said = vars(options) if isinstance(options, Namespace) else {}
    question = said.get("qa_prompt_format") or QUESTION_FORMAT
    encoder = said.get("encoder_format") or ENCODER_FORMAT
    remarks: tuple[str, ...] = (
        f"questions are asked as {question!r}; Atlas writes <extra_id_0> in front of an answer",
    )
    passage = encoder.removeprefix(QUERY)
    if (
        not _fits(question, *FORMAT_FIELDS["question_format"])
        or passage == encoder
        or not _fits(passage, *FORMAT_FIELDS["passage_format"])
    ):
        passage, question = ENCODER_FORMAT.removeprefix(QUERY), QUESTION_FORMAT
        remarks = ("its options have text formats that readers can't have; took Atlas' usual ones",)
    changes: dict[str, Any] = {"question_format": question, "passage_format": passage}
    longest = said.get("text_maxlength")
    if isinstance(longest, int) and longest >= config.question_tokens + 4:
        changes["passage_tokens"] = longest - config.question_tokens
    if said.get("reader_model_type"):
        remarks += (f"its vocabulary is that of {said['reader_model_type']}",)
    return config.replace(**changes), Notes(remarks=remarks)


def _fits(form: str, *fields: str) -> bool:
    """Whether the text can be filled in with these fields alone, the first among them."""
    try:
        check_format(form, *fields)
    except ValueError:
        return False
    return True
