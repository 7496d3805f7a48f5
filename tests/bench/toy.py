"""Questions of a few tokens, readers that take no time, and a machine that needn't be measured."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fidkit.bench.ceilings import Effort
from fidkit.bench.questions import Questions
from fidkit.bench.subjects import Facts, Needs, Subject
from fidkit.cost import HARDWARE, Workload

CPU = torch.device("cpu")
QUICK = Effort(seconds=0.001, shapes=((32, 32, 32),), megabytes=1)
MACHINE = HARDWARE["cpu-2core"]

# Two questions of different lengths, three passages each, all below the vocabulary of `oracles`.
RAGGED = Questions(
    [[5, 6, 7], [9, 8]],
    [[[3, 4, 5, 6, 7, 8], [11], [20, 21, 22]], [[30, 31], [12, 13, 14, 15], [16, 17, 18]]],
)


class Quiet:
    """Progress that nobody watches."""

    def __init__(self) -> None:
        self.done, self.said = 0, []

    def advance(self, n: int = 1) -> None:
        self.done += n

    def describe(self, text: str) -> None:
        self.said.append(text)


class Toy(Subject):
    """Writes down what it was asked to do."""

    def __init__(self, name: str, log: list | None = None, weights: int = 0, working: int = 0) -> None:
        self.name, self.log = name, [] if log is None else log
        self.weights, self.working = weights, working

    @property
    def facts(self) -> Facts:
        return Facts(preset=None, dtype="float32", config={})

    def needs(self, workload: Workload) -> Needs:
        return Needs(self.weights, self.working * workload.questions * workload.passages)

    def prepare(self, questions: Questions) -> None:
        self.log.append((self.name, "prepare"))

    def encode(self) -> None:
        self.log.append((self.name, "encode"))

    def decode(self, tokens: int) -> Tensor:
        self.log.append((self.name, tokens))
        return torch.zeros(1, tokens)


class Interrupted(Toy):
    """Is interrupted when it encodes for the `after`-th time."""

    def __init__(self, after: int) -> None:
        super().__init__("interrupted")
        self.left = after

    def encode(self) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


class FakeClock:
    """Runs what it is given and says how long it took: the next of a list, in milliseconds."""

    def __init__(self, ms: Sequence[float]) -> None:
        self.ms = iter(ms)

    def __call__(self, run) -> float:
        run()
        return next(self.ms)
