"""Gives a reader the vocabulary of another one that has the same words in another order.

    fidkit convert MPNET runs/mpnet-own --decoder-layers 2
    python recipes/vocabulary.py runs/mpnet-own --of pocket --to runs/mpnet

all-mpnet-base-v2 has BERT's words, a few places further on, and other names for what begins, ends, pads and
masks. With the order of the bundled reader it reads as before, and can be its teacher
(`recipes/taught.toml`).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch

from fidkit import Reader
from fidkit.errors import CheckpointError
from fidkit.tokens import Tokenizer

NAMES = {"[CLS]": "<s>", "[SEP]": "</s>", "[PAD]": "<pad>", "[MASK]": "<mask>"}
"""BERT's names of special tokens, and MPNet's."""
TOKENS = ("pad_token", "end_token", "start_token", "question_end_token", "title_end_token")


def main() -> None:
    """Reads the command line."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("reader", help="whose vocabulary is given up")
    options.add_argument("--of", required=True, help="the reader whose vocabulary it gets")
    options.add_argument("--to", type=Path, required=True, help="a new directory")
    given = options.parse_args()
    if given.to.exists():
        options.error(f"{given.to} exists; expected a new directory")
    with_vocabulary(Reader.from_pretrained(given.reader), Reader.from_pretrained(given.of)).save_pretrained(
        given.to
    )


@torch.no_grad()
def with_vocabulary(reader: Reader, other: Reader) -> Reader:
    """The reader with its embeddings, and what its head adds to each word, in the order of another's words.

    Raises:
        CheckpointError: the reader lacks words of the other.
    """
    assert reader.tokenizer is not None
    assert other.tokenizer is not None
    own, wanted = reader.tokenizer.backend.get_vocab(), other.tokenizer.backend.get_vocab()
    order = places(own, wanted)
    tokens = {name: getattr(other.config, name) for name in TOKENS}
    config = reader.config.replace(vocabulary_size=len(order), **tokens)
    weights = {
        name: weight[order] if len(weight) == reader.config.vocabulary_size else weight
        for name, weight in reader.state_dict().items()
    }
    made = Reader(config, Tokenizer(other.tokenizer.backend, config))
    made.load_state_dict(weights)
    return made


def places(own: Mapping[str, int], wanted: Mapping[str, int]) -> list[int]:
    """Where each token of a vocabulary, in order, stands in another.

    Raises:
        CheckpointError: it isn't there.
    """
    tokens = sorted(wanted, key=wanted.__getitem__)
    found = [own.get(token, own.get(NAMES.get(token, token))) for token in tokens]
    if missing := [token for token, place in zip(tokens, found, strict=True) if place is None]:
        raise CheckpointError(
            f"{len(missing):,} of {len(tokens):,} tokens are in the other vocabulary only, {missing[0]!r} "
            "among them; expected the same words in another order"
        )
    return [place for place in found if place is not None]


if __name__ == "__main__":
    main()
