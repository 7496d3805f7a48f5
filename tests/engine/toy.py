"""A decoder small enough to enumerate, and searches that are obvious."""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fidkit.context import Context
from oracles import Tokens, small

END = 1
Next = Callable[[Sequence[int]], Tensor]
"""Log-probabilities [V] of the token after those given."""


class Toy:
    """Logits are a random function of the question and of what was written so far.

    The questions of `contexts_of` are numbers. Caches know what each row has written, nothing else.
    """

    def __init__(self, vocabulary: int = 5, seed: int = 0, spread: float = 1.5) -> None:
        self.config = small(vocabulary_size=vocabulary)
        self.seed, self.spread = seed, spread

    def start(self, context: Context, max_tokens: int, beams: int = 1) -> "ToyCache":
        questions = context.states_BMD[:, 0, 0].long().tolist()
        return ToyCache([q for q in questions for _ in range(beams)])

    def step(self, ids_N: Tensor, cache: "ToyCache") -> Tensor:
        for row, token in zip(cache.written, ids_N.tolist(), strict=True):
            row.append(token)
        return torch.stack(
            [self.logits(q, w[1:]) for q, w in zip(cache.questions, cache.written, strict=True)]
        )

    def logits(self, question: int, written: Sequence[int]) -> Tensor:
        key = hash((self.seed, question, *written)) % 2**31
        generator = torch.Generator().manual_seed(key)
        return self.spread * torch.randn(self.config.vocabulary_size, generator=generator)

    def next(self, question: int) -> Next:
        return lambda written: self.logits(question, written).log_softmax(-1)


class ToyCache:
    def __init__(self, questions: list[int]) -> None:
        self.questions = questions
        self.written: list[Tokens] = [[] for _ in questions]

    def select(self, rows_N: Tensor) -> None:
        rows = rows_N.tolist()
        assert [self.questions[row] for row in rows] == self.questions, "rows of another question"
        self.written = [list(self.written[row]) for row in rows]


def contexts_of(*questions: int) -> Context:
    states = torch.tensor(questions).float()[:, None, None]
    mask = torch.ones(len(questions), 1, dtype=torch.bool)
    return Context(states, mask, mask.long(), mask.long())


def log_probability(follow: Next, written: Sequence[int]) -> float:
    return sum(float(follow(written[:i])[token]) for i, token in enumerate(written))


def all_answers(vocabulary: int, most: int) -> list[Tokens]:
    """Whatever ends with the end of sequence, or is cut off at `most` tokens."""
    others = [token for token in range(vocabulary) if token != END]
    ended = [[*start, END] for n in range(most) for start in itertools.product(others, repeat=n)]
    return ended + [list(cut) for cut in itertools.product(others, repeat=most)]


def naive_beam(
    follow: Next, beams: int, most: int, length_penalty: float = 1.0, end: int = END
) -> list[tuple[float, Tokens]]:
    """Finished hypotheses, the best first, with their scores."""
    running: list[tuple[float, Tokens]] = [(0.0, [])]
    finished: list[tuple[float, Tokens]] = []
    for length in range(1, most + 1):
        extended = [
            (total + value, [*written, token])
            for total, written in running
            for token, value in enumerate(follow(written).tolist())
        ]
        extended.sort(key=lambda hypothesis: -hypothesis[0])
        extended = extended[: 2 * beams]
        ended = [h for h in extended[:beams] if h[1][-1] == end or length == most]
        finished += [(total / length**length_penalty, written) for total, written in ended]
        finished.sort(key=lambda hypothesis: -hypothesis[0])
        running = [h for h in extended if h[1][-1] != end][:beams]
        finished = finished[:beams]
        nothing_better = (
            not running or running[0][0] / length**length_penalty <= finished[-1][0] if finished else False
        )
        if len(finished) == beams and (beams == 1 or nothing_better):
            break
    return finished[:beams]
