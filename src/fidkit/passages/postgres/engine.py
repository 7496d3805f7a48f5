"""What `fidkit.passages.engines` asks of an engine, for URLs of PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fidkit.cluster import By
from fidkit.passages.local.cuts import WantedCutting
from fidkit.passages.postgres.address import address_of

if TYPE_CHECKING:
    from fidkit.passages.local.check import CheckReport
    from fidkit.passages.local.corpus import Corpus
    from fidkit.passages.local.vectors import EncoderSource
    from fidkit.passages.postgres.feeding import Tell


def said(url: str) -> str:
    """The URL without its password."""
    return address_of(url).shown


def open_corpus(url: str, encoder: EncoderSource | None = None, tell: Tell | None = None) -> Corpus:
    """See `Corpus.open`."""
    address = address_of(url)
    if not address.replica:
        from fidkit.passages.postgres.served import ServedCorpus

        return ServedCorpus(address, encoder)
    from fidkit.passages.postgres.corpus import PostgresCorpus

    return PostgresCorpus(address, encoder, tell)


def build_corpus(
    sources: Iterable[str | os.PathLike[str]],
    url: str,
    tell: Tell | None = None,
    encoder: EncoderSource | None = None,
    vectors: bool | None = None,
    cutting: WantedCutting | None = None,
    by: By = "local",
) -> Corpus:
    """See `Corpus.build`."""
    address = address_of(url)
    from fidkit.passages.postgres.corpus import build_corpus

    return build_corpus(sources, address, tell, encoder, vectors, cutting or WantedCutting(), by)


def check_corpus(url: str, repair: bool = False, encoder: EncoderSource | None = None) -> CheckReport:
    """See `fidkit.passages.local.check.check`."""
    address = address_of(url)
    from fidkit.passages.postgres.corpus import check_corpus

    return check_corpus(address, repair, encoder)
