"""What the papers say of quality: the one place where these numbers are typed in.

Exact match on development questions of NQ, TriviaQA and WebQuestions, of T5 v1.1 base and XL.
"""

from __future__ import annotations

SETS = ("NQ", "TriviaQA", "WebQuestions")
Scores = tuple[float, float, float]

# FiDO (arXiv 2212.08153), table 3: FiDO base-XL and without each of its parts.
ABLATIONS: dict[str, Scores] = {
    "fido": (48.2, 67.3, 46.8),
    "fido-no-lsa": (47.9, 67.4, 46.3),
    "fido-no-mq": (48.2, 67.5, 45.4),
    "mq": (46.3, 64.9, 41.0),
}
# FiDO, table 4: base, with cross-attention in every sixth layer, or with the first sixth of each passage.
LIGHT: dict[str, Scores] = {
    "fid": (46.5, 65.8, 41.83),
    "light-6": (36.3, 54.5, 30.8),
    "lsa-6": (45.8, 65.3, 41.0),
}
# FiDO, table 7: NQ alone; beams at four times the cost, and a larger decoder.
BEAM_OR_SIZE = {"mq": 46.3, "mq-beams": 46.2, "fido": 48.2}
# MEMORY-VQ (arXiv 2308.14903): the mean exact match on KILT, with memory as it is and 16 times smaller.
VQ = (72.66, 72.42)
