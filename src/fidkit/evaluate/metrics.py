"""Answer metrics of open-domain question answering, with the rules of SQuAD and DPR.

Two notions of "equal" live here. A predicted answer is compared after the SQuAD normaliser, which
forgives case, punctuation and articles. Whether a passage holds an answer follows DPR: the answer's
tokens occur in the passage one after the other, whatever the case, and accents count.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import regex

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WORDS_AGAIN = re.compile(r"(?:^| )(\S.*?)(?: \1){2,}(?: |$)")
_CHARACTERS_AGAIN = re.compile(r"(\S.+?)\1{3,}")
# A run of letters, digits and marks, or one other character that is neither space nor control.
_TOKEN = regex.compile(r"[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]")


def normalize_answer(text: str) -> str:
    """`text` in lower case, without ASCII punctuation, without a/an/the, with single spaces."""
    bare = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(prediction: str, answers: Iterable[str]) -> bool:
    """Whether the normalised prediction equals one of the normalised answers."""
    wanted = normalize_answer(prediction)
    return any(normalize_answer(answer) == wanted for answer in answers)


def f1(prediction: str, answers: Iterable[str]) -> float:
    """Overlap of normalised words with the best of the answers, 0 to 1 (0 without answers)."""
    words = normalize_answer(prediction).split()
    return max((_overlap(words, normalize_answer(answer).split()) for answer in answers), default=0.0)


def is_loop(text: str) -> bool:
    """Whether the same words stand three times in a row, or the same characters (two or more) four times."""
    words = " ".join(text.lower().translate(_NO_PUNCTUATION).split())
    return bool(_WORDS_AGAIN.search(words) or _CHARACTERS_AGAIN.search(f"{text} "))


def _overlap(predicted: list[str], wanted: list[str]) -> float:
    if not predicted or not wanted:
        # Nothing but articles and punctuation on both sides is an exact match, so F1 says 1 as well.
        return float(predicted == wanted)
    common = (Counter(predicted) & Counter(wanted)).total()
    return 2 * common / (len(predicted) + len(wanted))


def has_answer(answers: Iterable[str], text: str) -> bool:
    """Whether the tokens of some answer stand in `text` in a row (NFD, case ignored).

    Token boundaries count: "art" is not in "party". An answer without tokens is in no text.
    """
    haystack = _spaced_tokens(text)
    return any(needle in haystack for needle in map(_spaced_tokens, answers) if needle.strip())


def _spaced_tokens(text: str) -> str:
    # No token holds a space, so token subsequences of two texts are substrings of these.
    tokens = _TOKEN.findall(unicodedata.normalize("NFD", text))
    return f" {' '.join(token.lower() for token in tokens)} "


def recall_at(k_list: Sequence[int], answers: Sequence[str], texts: Iterable[str]) -> dict[int, bool]:
    """For each k, whether one of the first k texts has an answer; `texts` is in rank order."""
    ranks = (rank for rank, text in enumerate(texts, start=1) if has_answer(answers, text))
    first = next(ranks, None)
    return {k: first is not None and first <= k for k in k_list}
