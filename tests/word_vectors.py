"""A plain encoder for tests: the vector of a text is the sum of its words', which are drawn once each."""

import hashlib
from collections.abc import Sequence
from functools import cache

import numpy as np

from fidkit.passages.search.encoder import VectorEncoder

DIMENSION = 100
WORDS = [f"w{number}" for number in range(120)]


def text(number: int) -> str:
    """Six words; every number has its own, and neighbours have words in common."""
    return " ".join(
        WORDS[(number // step + 7 * at) % len(WORDS)] for at, step in enumerate((1, 2, 5, 17, 71, 301))
    )


@cache
def _word(word: str, dimension: int) -> np.ndarray:
    seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
    return np.random.default_rng(seed).standard_normal(dimension)


def encoder(dimension: int = DIMENSION, fingerprint: str = "words") -> VectorEncoder:
    def encode(texts: Sequence[str]) -> np.ndarray:
        sums = [sum((_word(w, dimension) for w in text.split()), np.zeros(dimension)) for text in texts]
        return np.array([v / max(float(np.linalg.norm(v)), 1e-9) for v in sums], np.float32)

    return VectorEncoder("words", fingerprint, dimension, encode, encode)
