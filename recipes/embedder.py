"""The encoder of a checkpoint by itself, for search by meaning, beside the bundled reader that has its words.

    python recipes/embedder.py MINILM --to src/fidkit/assets/readers/minilm

MINILM is a checkpoint of sentence-transformers (all-MiniLM-L6-v2). Matrices are rounded to 8 bits, and what
the bundled reader has, the words and the vocabulary, is taken from there: a reader's words stay as they were
in training. `fidkit.engine.embedder.Embedder` opens it by name.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fidkit import assets, checkpoint
from fidkit.convert import carry_pooling, load


def main() -> None:
    """Reads the command line."""
    options = argparse.ArgumentParser(description="Store the encoder of a checkpoint alone.")
    options.add_argument("checkpoint", help="directory, or hub name, of a sentence-transformers checkpoint")
    options.add_argument("--to", type=Path, required=True, help="a new directory")
    given = options.parse_args()
    if given.to.exists():
        options.error(f"{given.to} exists; expected a new directory")
    reader, _ = load(given.checkpoint)
    encoder = {
        name: p.detach()
        for name, p in reader.named_parameters()
        if name.startswith(("embedding.", "live_encoder."))
    }
    stored = checkpoint.rounded(encoder)
    checkpoint.save_tensors(stored, reader.config, reader.tokenizer, given.to, share_with=assets.READER)
    carry_pooling(given.checkpoint, given.to, reader.config.positions)
    size = (given.to / checkpoint.WEIGHTS).stat().st_size
    print(f"{given.to}: {size / 1e6:.1f} MB beside {assets.READER}")


if __name__ == "__main__":
    main()
