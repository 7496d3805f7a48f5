"""How the states of an encoder become one vector of a text, as sentence-transformers' directories say it.

A checkpoint keeps it as `pooling.json`, beside its weights. It is true of the encoder as it came, so that it
isn't carried on once a reader is trained.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from fidkit import checkpoint
from fidkit.checkpoint.pooling import FILE, VERSION, Pooling
from fidkit.config import parse
from fidkit.convert import files
from fidkit.convert.files import read_json, read_list
from fidkit.convert.notes import Notes
from fidkit.errors import CheckpointError
from fidkit.paths import is_plain_name

MODULES = "modules.json"
KNOWN = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
WAYS: dict[str, Literal["mean", "cls"]] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
}


def model_directory(directory: Path) -> Path:
    """Where the encoder of a checkpoint lies: in it, or in the folder that sentence-transformers names.

    Raises:
        CheckpointError: a folder that isn't there, or is elsewhere.
    """
    modules = _modules(directory)
    inside = modules[0].get("path") if modules and _kind(modules[0]) == "Transformer" else None
    return directory if not inside else _below(directory, inside)


def read_pooling(directory: Path, positions: int) -> tuple[Pooling, str | None]:
    """How vectors are made, and a sentence where the checkpoint doesn't say.

    Args:
        directory: of a checkpoint, ours or foreign.
        positions: that its encoder has.

    Raises:
        CheckpointError: it has modules or a way that aren't run here; lists them.
        ConfigError: a `pooling.json` that can't be read.
    """
    if (directory / FILE).is_file():
        return Pooling.load(directory / FILE), None
    modules = _modules(directory)
    if not modules:
        return Pooling(tokens=positions), (
            f"no {MODULES} says how a text's vector is made of its states; took their mean, of length 1"
        )
    if (kinds := [_kind(module) for module in modules]) not in KNOWN:
        others = [kind for kind in kinds if kind not in KNOWN[1]] or kinds
        raise CheckpointError(
            f"{directory / MODULES}: its vectors go through {', '.join(others)}; expected Transformer, "
            "Pooling and, maybe, Normalize, in this order"
        )
    said = _sentences(directory, modules, positions)
    way = _way(_below(directory, modules[1].get("path", "")) / checkpoint.CONFIG)
    found: Pooling = parse(
        Pooling, {"way": way, "normalised": len(kinds) == 3, **said}, str(directory / MODULES)
    )
    return found, None


def save_pooling(pooling: Pooling, directory: Path) -> None:
    """Write `pooling.json` in a checkpoint's directory."""
    _write(directory / FILE, {"format_version": VERSION, **pooling.model_dump()})


def write_modules(pooling: Pooling, width: int, directory: Path) -> None:
    """Write it as sentence-transformers does, beside an encoder."""
    names = ["Transformer", "Pooling", "Normalize"][: 3 if pooling.normalised else 2]
    modules = [
        {
            "idx": n,
            "name": str(n),
            "path": f"{n}_{name}" if n else "",
            "type": f"sentence_transformers.models.{name}",
        }
        for n, name in enumerate(names)
    ]
    ways = {key: way == pooling.way for key, way in WAYS.items()}
    records: dict[str, Any] = {
        MODULES: modules,
        f"1_Pooling/{checkpoint.CONFIG}": {"word_embedding_dimension": width, **ways},
        "sentence_bert_config.json": {"max_seq_length": pooling.tokens, "do_lower_case": pooling.lower_case},
        "config_sentence_transformers.json": {
            "prompts": pooling.prompts,
            "default_prompt_name": pooling.prompt,
            "similarity_fn_name": "cosine",
        },
    }
    (directory / "1_Pooling").mkdir(exist_ok=True)
    for name, record in records.items():
        _write(directory / name, record)


def carry_pooling(source: str | Path, destination: Path, positions: int) -> Notes:
    """Write what is beside `source` beside `destination`, whose encoder is the same.

    Args:
        source: a checkpoint's directory, or a name on the hub that was fetched before.
        destination: of the reader that it was converted to.
        positions: that its encoder has.
    """
    found, notes = find_pooling(source, positions)
    if found is not None:
        save_pooling(found, destination)
    return notes


def find_pooling(source: str | Path, positions: int) -> tuple[Pooling | None, Notes]:
    """What a checkpoint says of its vectors; None where it says nothing, or what isn't run here."""
    directory = files.locate(source)
    if not any((directory / name).is_file() for name in (FILE, MODULES)):
        return None, Notes()
    try:
        return read_pooling(directory, positions)[0], Notes()
    except CheckpointError as error:
        return None, Notes(remarks=(f"no vectors are to be had of its encoder: {error}",))


def _write(path: Path, record: Any) -> None:
    text = json.dumps(record, indent=2) + "\n"
    checkpoint.replace_file(path, lambda new: new.write_text(text, encoding="utf-8"))


def _modules(directory: Path) -> list[dict[str, Any]]:
    path = directory / MODULES
    return read_list(path) if path.is_file() else []


def _kind(module: dict[str, Any]) -> str:
    """The class of a module, without the packages that it moved between."""
    return str(module.get("type")).rpartition(".")[2]


def _below(directory: Path, name: object) -> Path:
    if name == "":
        return directory
    if not isinstance(name, str) or not is_plain_name(name) or not (directory / name).is_dir():
        raise CheckpointError(f"{directory / MODULES}: names the folder {name!r:.99}, which isn't there")
    return directory / name


def _way(path: Path) -> Literal["mean", "cls"]:
    record = read_json(path)
    chosen = [name for name, value in record.items() if name.startswith("pooling_mode") and value]
    if record.get("pooling_mode") in WAYS.values():  # newer files say it in a word
        chosen = [key for key, way in WAYS.items() if way == record["pooling_mode"]]
    if len(chosen) != 1 or chosen[0] not in WAYS or record.get("include_prompt") is False:
        shown = ", ".join(chosen) or "nothing"
        extra = " without the prompt" if record.get("include_prompt") is False else ""
        raise CheckpointError(f"{path}: pools by {shown}{extra}; expected one of {', '.join(WAYS)}")
    return WAYS[chosen[0]]


def _sentences(directory: Path, modules: list[dict[str, Any]], positions: int) -> dict[str, Any]:
    """Lengths and prompts, from wherever they stand."""
    inside = _below(directory, modules[0].get("path", ""))
    own = inside / "sentence_bert_config.json"
    model = read_json(own) if own.is_file() else {}
    around = directory / "config_sentence_transformers.json"
    texts = read_json(around) if around.is_file() else {}
    tokenizer = inside / "tokenizer_config.json"
    longest = (read_json(tokenizer) if tokenizer.is_file() else {}).get("model_max_length", positions)
    usual = min(positions, longest if isinstance(longest, int) else positions)
    given = texts.get("prompts")
    prompts = {name: text for name, text in given.items() if text} if isinstance(given, dict) else {}
    chosen = texts.get("default_prompt_name")
    return {
        "tokens": min(longest, positions)
        if isinstance(longest := model.get("max_seq_length"), int)
        else usual,
        "lower_case": bool(model.get("do_lower_case")),
        "prompts": prompts,
        "prompt": chosen if isinstance(chosen, str) and chosen in prompts else None,
    }
