"""Texts in front of the tokenizer, with fields in braces."""

from __future__ import annotations

from string import Formatter

TWO_PARTS = "{title}{text}"
"""The format of passages whose title and text are tokenised apart."""
FORMAT_FIELDS = {"question_format": ("question",), "passage_format": ("text", "title")}
"""What may stand in braces; the first has to."""


def check_format(form: str, needed: str, *others: str) -> None:
    """Require a text whose fields in braces are `needed` and, maybe, `others`, as plain names.

    Raises:
        ValueError: a field is missing, unknown or not plain, or braces don't match.
    """
    try:
        parts = list(Formatter().parse(form))
    except ValueError as error:
        raise ValueError(f"{form!r} can't be filled in ({error}); write a brace itself twice") from None
    # A conversion or a width counts as part of the name: neither is text that a reader was trained on.
    fields = [f"{name}{how or ''}{width}" for _, name, width, how in parts if name is not None]
    known = (needed, *others)
    if unknown := [field for field in fields if field not in known]:
        allowed = " and ".join(f"{{{name}}}" for name in known)
        raise ValueError(f"{form!r} has {unknown[0]!r} in braces; expected {allowed} and nothing else")
    if needed not in fields:
        raise ValueError(f"{form!r} has no {{{needed}}}, so that no {needed} would be read; put it in")
