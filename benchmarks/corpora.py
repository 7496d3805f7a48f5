"""What benchmarks of corpora share: folders made up from a seed, and a corpus beside a fresh build."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fidkit.passages import Corpus
from fidkit.passages.local.catalogue import Catalogue
from fidkit.types import Hit

K = 20
_WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "r", "lo", "mi", "ta", "x")]


def text(draw: random.Random, paragraphs: int) -> str:
    """Paragraphs of words, rare and frequent ones."""
    rare = [f"{word}{draw.randrange(40)}" for word in draw.choices(_WORDS, k=5)]
    return "\n\n".join(
        " ".join(draw.choices(_WORDS + rare * 20, k=draw.randrange(20, 60))) + "." for _ in range(paragraphs)
    )


def folder(root: Path, files: int, draw: random.Random, paragraphs: int = 12) -> list[Path]:
    """Texts in folders of a hundred."""
    made = []
    for number in range(files):
        path = root / f"part{number // 100:03d}" / f"note{number:06d}.{'md' if number % 2 else 'txt'}"
        if number % 100 == 0:
            path.parent.mkdir(parents=True)
        path.write_text(text(draw, draw.randrange(1, paragraphs)))
        made.append(path)
    return made


def beside_fresh(directory: Path, fresh: Path, draw: random.Random, questions: int = 200) -> dict[str, Any]:
    """What a corpus that was kept up to date has in common with one that was built at once.

    Passages are compared in (id, title, text, source); hits by words in content and score, whatever the order
    of those with equal scores.
    """
    with Corpus.open(directory) as kept, Corpus.open(fresh) as built:
        passages, expected = sorted(map(repr, kept)), sorted(map(repr, built))
        equal_documents = _documents(directory) == _documents(fresh)
        asked = [
            " ".join(draw.sample(_words(passage), 4)) for passage in draw.choices(list(built), k=questions)
        ]
        pairs = [(kept.search(one, K, "words"), built.search(one, K, "words")) for one in asked]
        return {
            "equal_passages": passages == expected,
            "equal_fingerprint": kept.fingerprint == built.fingerprint,
            "equal_documents": equal_documents,
            "passages": len(expected),
            "left_out": [len(kept.info().skipped_files), len(built.info().skipped_files)],
            "questions": questions,
            "equal_hits_and_scores": sum(_hits(mine) == _hits(theirs) for mine, theirs in pairs),
            "equal_first": sum(_first(mine) == _first(theirs) for mine, theirs in pairs),
            "largest_score_difference": max(_difference(*pair) for pair in pairs),
        }


def _words(passage: Any) -> list[str]:
    words = sorted({word.strip(".") for word in passage.text.split()})
    return words * 4 if len(words) < 4 else words


def _documents(directory: Path) -> list[tuple[str, str]]:
    with Corpus.open(directory) as corpus:
        catalogue = Catalogue.for_reading(directory)
        try:
            names = catalogue.sources(1 << 40)
        finally:
            catalogue.close()
        return sorted((name, corpus.document(name).text) for name in names)


def _hits(hits: Sequence[Hit]) -> set[tuple[str, str, float]]:
    """Those before the last score, of which there may be more than fit; by content."""
    return {(*_content(hit), hit.score) for hit in hits if hit.score > hits[-1].score}


def _first(hits: Sequence[Hit]) -> set[tuple[str, str]]:
    return {_content(hit) for hit in hits if hit.score == hits[0].score}


def _content(hit: Hit) -> tuple[str, str]:
    return hit.passage.title, hit.passage.text


def _difference(mine: Sequence[Hit], theirs: Sequence[Hit]) -> float:
    """Relative, at the same rank."""
    return max(
        (abs(one.score - other.score) / other.score for one, other in zip(mine, theirs, strict=False)),
        default=0.0,
    )
