"""A small world laid out as the experiments' data: corpus, pretrain, qa and retrieved."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fidkit import Corpus
from train.toy import FACTS, IDS


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def write_data(folder: Path) -> tuple[Path, Path]:
    """The data folder, and a corpus of its passages."""
    facts = list(zip(IDS, FACTS, strict=True))
    passages = [{"id": i, "title": t, "text": x} for i, (t, x, *_) in facts]
    questions = [
        {
            "id": f"q{i}", "question": q, "answers": a, "target": a[0], "positive_ids": [i],
            "positive_kind": "distant" if n % 4 == 3 else "gold",
            "dataset": ("squad", "newwiki", "nq")[n % 3],
        }
        for n, (i, (*_, q, a)) in enumerate(facts)
    ]  # fmt: skip
    turned = [
        {"id": f"q{i}", "ctx_ids": [IDS[(n + k) % len(IDS)] for k in (1, 2, 0)]} for n, i in enumerate(IDS)
    ]
    write_rows(folder / "corpus" / "passages.jsonl.gz", passages)
    write_rows(folder / "pretrain" / "books.jsonl.gz", passages)
    for name in ("train", "dev.squad", "dev.newwiki", "dev.nq", "dev.webq", "dev.triviaqa"):
        write_rows(folder / "qa" / f"{name}.jsonl.gz", questions)
        write_rows(folder / "retrieved" / f"{name}.jsonl.gz", turned)
    with Corpus.build(folder / "corpus", folder / "wiki.corpus"):
        return folder, folder / "wiki.corpus"
