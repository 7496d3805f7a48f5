"""The options that say how answers are written, once for all commands that write some."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Annotated

import typer

from fidkit.devices import HELP
from fidkit.engine.generation.decoding import Decoding
from fidkit.errors import UsageError

DeviceName = Annotated[str, typer.Option("--device", help=HELP)]
Extractive = Annotated[
    bool | None,
    typer.Option(
        "--extractive/--free",
        help="Answer with pieces of the passages alone. The reader decides if absent.",
        show_default=False,
    ),
]
PrecisionName = Annotated[str, typer.Option(help="auto, float32, bfloat16, or int8 (weights rounded).")]


def options(
    max_tokens: Annotated[int, typer.Option(help="Tokens of an answer, at most.")] = Decoding.max_tokens,
    min_tokens: Annotated[
        int, typer.Option(help="Tokens of an answer before it may end.")
    ] = Decoding.min_tokens,
    beams: Annotated[
        int, typer.Option(help="Hypotheses that beam search follows; 1 is greedy.")
    ] = Decoding.beams,
    length_penalty: Annotated[
        float, typer.Option(help="Beam search: larger prefers longer answers.")
    ] = Decoding.length_penalty,
    temperature: Annotated[
        float, typer.Option(help="Above 0: draw tokens, the hotter the more freely.")
    ] = Decoding.temperature,
    top_k: Annotated[int | None, typer.Option(help="Draw among so many likeliest tokens.")] = Decoding.top_k,
    top_p: Annotated[
        float, typer.Option(help="Draw among the likeliest tokens of this probability.")
    ] = Decoding.top_p,
    seed: Annotated[int, typer.Option(help="Of the drawing.")] = Decoding.seed,
    n_best: Annotated[
        int, typer.Option(help="Answers a question: the best beams, or samples.")
    ] = Decoding.n_best,
    no_repeat_ngram: Annotated[
        int, typer.Option(help="No so many tokens in a row twice; 0 is off.")
    ] = Decoding.no_repeat_ngram,
    extractive: Extractive = Decoding.extractive,
    loops: Annotated[
        bool | None,
        typer.Option(
            "--loops/--no-loops",
            help="Let tokens repeat at once where no passage does. The reader decides if absent.",
            show_default=False,
        ),
    ] = Decoding.loops,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="End an answer after this text; repeatable.")
    ] = None,
) -> Decoding:
    """What was given, as a value, which explains and checks it."""
    return Decoding(
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        beams=beams,
        length_penalty=length_penalty,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        n_best=n_best,
        stop=tuple(stop or ()),
        no_repeat_ngram=no_repeat_ngram,
        extractive=extractive,
        loops=loops,
    )


def takes_decoding(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameter `decoding` is made of `options`, which come last in its help.

    Typer finds a command's options in its signature and knows no groups of them, so one signature is made
    of two.
    """
    own, shared = (inspect.signature(f, eval_str=True).parameters for f in (command, options))

    @functools.wraps(command)
    def run(**given: object) -> None:
        chosen = {name: given.pop(name) for name in shared}
        try:
            decoding = options(**chosen)  # type: ignore[arg-type]
        except UsageError as error:
            raise UsageError(_as_options(str(error), shared)) from error
        command(**given, decoding=decoding)

    kept = [parameter for name, parameter in own.items() if name != "decoding"]
    parameters = [*kept, *shared.values()]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _as_options(message: str, names: Iterable[str]) -> str:
    """What `Decoding` says of a value, with its names as they are typed: `--max-tokens` for `max_tokens`."""
    named = {name: "--" + name.replace("_", "-") for name in names}
    for name, option in named.items():
        # One that is also a word is an option where a value is said of it.
        word = name if "_" in name else rf"{name}(?= (?:is |to )?[-+\d.(])"
        message = re.sub(rf"(?<![\w-]){word}\b", option, message)
    return message
