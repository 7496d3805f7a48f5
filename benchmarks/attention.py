"""Time the ways to attend within ragged rows, and encoders that use them, beside the matrix rate.

    python benchmarks/attention.py --out DIR [--device cuda] [--size base] [--rounds 10]

Rows go to DIR/attention.jsonl: one for each batch, kind of lengths and way. `full` is 40 passages of 256
tokens a question, `ragged` 40 of 40 to 256. All ways run in each round; `plain` is the reader's own. A way
that gives way to another says so in `ran`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import rows
import torch
from torch import Tensor

from fidkit.bench import ceilings
from fidkit.bench.ceilings import Effort
from fidkit.bench.measure import Clock, rotated, summary
from fidkit.config import ReaderConfig, StackConfig
from fidkit.engine.cuda import fused
from fidkit.engine.cuda.encoder import CudaEncoder
from fidkit.engine.cuda.row_attention import Attention, FlexRows, compiled_flex, prepare
from fidkit.nn.attention import attend_rows
from fidkit.nn.encoder import EncoderLayers
from fidkit.nn.rows import Rows
from fidkit.preset import SIZES, TINY

# No other case is begun after so many seconds: the last one takes less than what is left of nine minutes.
DEADLINE_S = 360
WAYS: tuple[Attention, ...] = ("flex", "sdpa")
SIZES = {"tiny": TINY, "small": SIZES["small"], "base": SIZES["base"]}


@dataclass(frozen=True)
class Case:
    """Rows of some questions.

    Attributes:
        lengths: `full` or `ragged`.
        batch: questions.
    """

    lengths: str
    batch: int

    def rows(self, tiny: bool, device: torch.device) -> Rows:
        """The same every time."""
        passages, longest = (3, 16) if tiny else (40, 256)
        shape = (self.batch * passages,)
        drawn = torch.randint(longest // 6, longest + 1, shape, generator=torch.Generator().manual_seed(0))
        return Rows((torch.full(shape, longest) if self.lengths == "full" else drawn).to(device))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for attention.jsonl")
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--size", default="base", choices=SIZES)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    began, device, tiny = time.monotonic(), torch.device(options.device), options.size == "tiny"
    effort = Effort(0.001, ("bfloat16",), ((32, 32, 32),)) if tiny else Effort(dtypes=("bfloat16",))
    for batch in (1, 2) if tiny else (1, 8, 24):
        for lengths in ("full", "ragged"):
            if time.monotonic() - began > DEADLINE_S:
                return
            case = Case(lengths, batch)
            with torch.inference_mode():
                peak = ceilings.matrix_tflops(device, effort)["bfloat16"]
                for found in measure(
                    SIZES[options.size], case, case.rows(tiny, device), device, options.rounds
                ):
                    record = rows.row("attention", device=options.device, size=options.size, **found)
                    record |= {
                        "machine": ceilings.describe(device),
                        "dtype": "bfloat16",
                        "matrix_tflops": peak,
                    }
                    rows.append(options.out / "attention.jsonl", record)


def measure(
    stack: StackConfig, case: Case, of: Rows, device: torch.device, rounds: int
) -> Iterator[dict[str, Any]]:
    """Attention alone and whole encoders, in interleaved rounds."""
    torch.manual_seed(0)
    config = ReaderConfig(encoder=stack, decoder=stack)
    layers = EncoderLayers(config, stack.layers).to(device, torch.bfloat16).eval()
    for p in layers.parameters():
        torch.nn.init.normal_(p, std=0.02)
    X, heads = len(of.row_X), (stack.heads, stack.head_width)
    x_XD = torch.randn(X, stack.width, device=device, dtype=torch.bfloat16)
    q, k, v = (torch.randn(X, *heads, device=device, dtype=torch.bfloat16) / 8 for _ in range(3))
    pairs = int((of.lengths**2).sum())
    attention_flops = 4 * pairs * stack.heads * stack.head_width
    weights = sum(p.numel() for p in layers.layers.parameters() if p.ndim == 2)
    flops = {"attention": attention_flops, "encoder": 2 * X * weights + stack.layers * attention_flops}
    found = {
        "attention": attention_runs(layers, of, q, k, v),
        "encoder": encoder_runs(layers, of, x_XD),
    }
    for part, runs in found.items():
        times = interleaved(runs, Clock(device), rounds)
        for way, ms in times.items():
            given = prepare(way, layers, of, q) if way in WAYS else None
            ran = type(given).__name__ if given else "attend_rows"
            if isinstance(given, FlexRows) and compiled_flex().compiled is None:
                ran = "PaddedRows"
            yield {
                "part": part,
                "lengths": case.lengths,
                "batch": case.batch,
                "vectors": X,
                "way": way,
                "ran": ran,
                "ms": summary(ms),
                "repeats": ms,
                "tflops": flops[part] / summary(ms)["median"] / 1e9,
            }


def attention_runs(
    layers: EncoderLayers, of: Rows, q: Tensor, k: Tensor, v: Tensor
) -> dict[str, Callable[[], object]]:
    """One layer's attention, made ready beforehand as for all layers."""
    runs: dict[str, Callable[[], object]] = {
        "plain": partial(attend_rows, q, k, v, of, layers.bias(of.longest))
    }
    return runs | {way: partial(prepare(way, layers, of, q), q, k, v) for way in WAYS}


def encoder_runs(layers: EncoderLayers, of: Rows, x_XD: Tensor) -> dict[str, Callable[[], object]]:
    """All layers; everything that belongs to new rows is made anew."""

    def run(encode: Callable[[EncoderLayers, Tensor, Rows], Tensor]) -> Tensor:
        return encode(layers, x_XD, Rows(of.lengths))

    runs: dict[str, Callable[[], object]] = {"plain": partial(run, EncoderLayers.__call__)}
    return runs | {way: partial(run, CudaEncoder(fused.compiled(), way)) for way in WAYS}


def interleaved(runs: dict[str, Callable[[], object]], clock: Clock, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each in every round; each is compiled and warm before."""
    for run in (*runs.values(), *runs.values()):
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in rotated(list(runs), number):
            times[name].append(clock(runs[name]))
    return times


if __name__ == "__main__":
    main()
