"""The memory of a reader in any codec, over a small corpus that is made for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fidkit import Corpus
from fidkit.memory import MemoryStore
from fidkit.precompute import Options, build
from fidkit.types import Passage


def make_corpus(passages: Iterable[Passage], folder: Path) -> Path:
    """A corpus of some passages, each of them once."""
    unlike = {passage.id: passage for passage in passages}
    lines = (json.dumps({"id": p.id, "title": p.title, "text": p.text}) + "\n" for p in unlike.values())
    (folder / "passages.jsonl").write_text("".join(lines), encoding="utf-8")
    Corpus.build(folder / "passages.jsonl", to=folder / "corpus").close()
    return folder / "corpus"


@contextmanager
def stored(corpus: Path, reader: str, codec: str, pq_codes: int) -> Iterator[MemoryStore]:
    """The corpus's memory in a codec, which takes the place of any other, as `fidkit memory build` makes it.

    Args:
        corpus: a built one.
        reader: name or directory.
        codec: one of `fidkit.records.CODECS`.
        pq_codes: of each codebook, with `pq`.
    """
    options = Options(codec=codec, precision="float32", replace=True, pq_codes=pq_codes)
    with Corpus.open(corpus) as opened:
        build(opened, reader, options)
    with MemoryStore.open(corpus) as store:
        yield store
