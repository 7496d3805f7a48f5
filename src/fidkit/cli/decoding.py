"""Options that say how answers are written; `fidkit.engine.decoding` explains and checks them."""

from __future__ import annotations

from typing import Annotated

import typer

Precision = Annotated[str, typer.Option(help="auto, float32, bfloat16, or int8 (decoder weights).")]
MaxTokens = Annotated[int, typer.Option(help="Tokens of an answer, at most.")]
MinTokens = Annotated[int, typer.Option(help="Tokens of an answer before it may end.")]
Beams = Annotated[int, typer.Option(help="Hypotheses that beam search follows; 1 is greedy.")]
LengthPenalty = Annotated[float, typer.Option(help="Beam search: larger prefers longer answers.")]
Temperature = Annotated[float, typer.Option(help="Above 0: draw tokens, the hotter the more freely.")]
TopK = Annotated[int | None, typer.Option(help="Draw among so many likeliest tokens.")]
TopP = Annotated[float, typer.Option(help="Draw among the likeliest tokens of this probability.")]
Seed = Annotated[int, typer.Option(help="Of the drawing.")]
NBest = Annotated[int, typer.Option(help="Answers a question: the best beams, or samples.")]
NoRepeatNgram = Annotated[int, typer.Option(help="No so many tokens in a row twice; 0 is off.")]
Stop = Annotated[
    list[str] | None, typer.Option(metavar="TEXT", help="End an answer after this text; repeatable.")
]
