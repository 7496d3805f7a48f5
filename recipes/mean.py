"""Averages the weights of readers that were trained from one start: one reader that reads better than each.

    python recipes/mean.py runs/everyday/last runs/everyday-2/last --to runs/pocket

The mean of runs that began alike (Wortsman et al., arXiv 2203.05482). Readers that began otherwise have no
mean that reads.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from fidkit import Reader


def main() -> None:
    """Reads the command line."""
    options = argparse.ArgumentParser(description="Average readers that were trained from one start.")
    options.add_argument("readers", nargs="+", help="two directories of readers or more")
    options.add_argument("--to", type=Path, required=True, help="a new directory")
    given = options.parse_args()
    if given.to.exists():
        options.error(f"{given.to} exists; expected a new directory")
    first, *others = (Reader.from_pretrained(name) for name in given.readers)
    for name, other in zip(given.readers[1:], others, strict=True):
        if other.config != first.config:
            options.error(f"{name} is another reader than {given.readers[0]}: their config.json differ")
    average(first, others)
    first.save_pretrained(given.to)
    print(f"{given.to}: the mean of {1 + len(others)} readers")


@torch.no_grad()
def average(reader: Reader, others: list[Reader]) -> None:
    """Give a reader the mean of its weights and those of others, in place.

    What is the same in all stays as it is to the bit, which a sum that is divided again would not: frozen
    words are shared with other readers and with search.
    """
    for name, weight in reader.named_parameters():
        all_of_them: list[torch.Tensor] = [weight, *(other.get_parameter(name) for other in others)]
        if not all(torch.equal(weight, other) for other in all_of_them):
            weight.copy_(torch.stack(all_of_them).mean(0))


if __name__ == "__main__":
    main()
