import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from fidkit import Reader
from fidkit.passages import Corpus
from fidkit.preset import named
from fidkit.tokens import Tokenizer

WORDS = "harbour lamp river stone winter market glass tower bread salt copper garden".split()  # noqa: SIM905


@pytest.fixture(scope="session")
def reader_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LUMEN reader, with heads that suit the native kernels."""
    directory = tmp_path_factory.mktemp("readers") / "tiny-lumen"
    tiny = named("tiny-lumen")
    wide = {"head_width": 16}
    config = tiny.replace(encoder=tiny.encoder.model_dump() | wide, decoder=tiny.decoder.model_dump() | wide)
    reader = Reader(config, Tokenizer.bundled(config))
    reader.reset_parameters(torch.Generator().manual_seed(0))
    reader.save_pretrained(directory)
    return directory


def texts(count: int, seed: int = 0) -> list[str]:
    """Different texts of 1 to 60 words; every tenth stands there a second time."""
    draw = random.Random(seed)
    made = [
        f"{seed}.{n} " + " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 60)))
        for n in range(count)
    ]
    return [made[n - 1] if n % 10 == 9 else text for n, text in enumerate(made)]


@pytest.fixture
def make_corpus(tmp_path: Path) -> Callable[..., Path]:
    """Builds, or rebuilds, a corpus of given texts."""

    def make(passages: Sequence[str], name: str = "docs.corpus") -> Path:
        source = tmp_path / f"{name}.jsonl"
        rows = [json.dumps({"id": n, "title": "A title", "text": text}) for n, text in enumerate(passages)]
        source.write_text("\n".join(rows) + "\n")
        Corpus.build(source, tmp_path / name).close()
        return tmp_path / name

    return make
