"""The piece that the pointer finds is the likeliest one of a passage, in every reader of the family."""

import pytest
import torch

from fidkit.context import Batch, Context
from fidkit.train.losses.pointing import LONGEST, point
from oracles import batch_of, random_reader, small

EXAMPLES = [
    ([2, 3], [[10, 11, 12, 1], [20, 21, 22, 23, 1], [30, 31, 1]], [1]),
    ([4, 5, 6], [[13, 14, 13, 15, 1]], [1]),
]
SYSTEMS = {
    "fid": {},
    "fid-light": {"kept_vectors": 3},
    "once": {"live_layers": 1, "question_in_context": "once"},
    "glimmer": {"rerank": {"after": 1, "keep": 2}},
}


def naive(batch: Batch, context: Context, logits: torch.Tensor) -> list[list[int]]:
    found = []
    for b in range(len(logits)):
        best = (-1e9, [])
        rows = [n for n, q in enumerate(batch.question_of_passage.tolist()) if q == b]
        kept = {}
        for m in range(logits.shape[1]):
            if context.mask_BM[b, m] and context.token_BM[b, m] >= 0:
                kept[int(context.passage_BM[b, m]), int(context.token_BM[b, m])] = m
        for passage, first in kept:
            for last in range(first, first + LONGEST):
                if (passage, last) not in kept:
                    break
                score = float(logits[b, kept[passage, first], 0] + logits[b, kept[passage, last], 1])
                tokens = batch.passage_ids[rows[passage], first : last + 1].tolist()
                best = max(best, (score, tokens), key=lambda pair: pair[0])
        found.append(best[1])
    return found


@pytest.mark.parametrize("name", SYSTEMS)
@torch.no_grad()
def test_the_best_piece_is_found(name: str) -> None:
    reader, batch = random_reader(small(**SYSTEMS[name])), batch_of(EXAMPLES)
    context = reader.read(batch)
    lengths = set()
    for _ in range(20):
        logits = torch.randn(*context.mask_BM.shape, 2)
        pieces = point(batch, context, logits)
        assert pieces == naive(batch, context, logits)
        lengths |= set(map(len, pieces))
    assert len(lengths) > 1


@torch.no_grad()
def test_neither_questions_nor_padding_nor_two_passages_are_a_piece() -> None:
    reader, batch = random_reader(small()), batch_of(EXAMPLES)
    context = reader.read(batch)
    logits = torch.zeros(*context.mask_BM.shape, 2)
    nowhere = ~context.mask_BM | (context.token_BM < 0)
    logits[nowhere] = 99.0
    ends = (context.passage_BM == 0) & (context.token_BM == 2)
    begins = (context.passage_BM == 1) & (context.token_BM == 1)
    logits[..., 0][ends | begins] = logits[..., 1][ends] = 5.0
    assert point(batch, context, logits)[0] == [12]
