"""`fidkit convert`: checkpoints in and out, and readers of one shape into another."""

from __future__ import annotations

import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fidkit import assets
from fidkit.errors import FidkitError, UsageError

if TYPE_CHECKING:
    from fidkit.config import ReaderConfig, RerankConfig
    from fidkit.convert import Knobs, Notes
    from fidkit.reader import Reader


class Precision(StrEnum):
    """How weights are stored."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"


_BYTES = {Precision.FLOAT32: 4, Precision.BFLOAT16: 2, Precision.INT8: 1}


class Origin(StrEnum):
    """What cross-attention that is left is made of."""

    OWN = "own"
    MEAN = "mean"


class Merging(StrEnum):
    """What a key/value head that stands for several is made of."""

    SVD = "svd"
    MEAN = "mean"


class Layout(StrEnum):
    """What a checkpoint is written as."""

    FIDKIT = "fidkit"
    HF_T5 = "hf-t5"
    HF_BERT = "hf-bert"
    FID = "fid"


Source = Annotated[
    str,
    typer.Argument(
        metavar="SRC",
        help="A reader, or a checkpoint of T5, FiD, fastRAG, Atlas, T5X or BERT: a directory, or a hub name.",
        show_default=False,
    ),
]
Destination = Annotated[Path, typer.Argument(metavar="DST", help="A new directory.", show_default=False)]
CrossAttentionEvery = Annotated[
    int | None,
    typer.Option(
        metavar="K", help="Keep cross-attention in every K-th decoder layer only.", show_default=False
    ),
]
CrossAttentionFrom = Annotated[
    Origin,
    typer.Option(help="What a layer that keeps it has: its own, or the mean with those it stands for."),
]
KvHeads = Annotated[
    int | None,
    typer.Option(
        metavar="G", help="Key/value heads of the decoder, merged from those there.", show_default=False
    ),
]
KvHeadsFrom = Annotated[
    Merging,
    typer.Option(help="What a merged head has: the most that the old ones can share (svd), or their mean."),
]
LiveLayers = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="Encoder layers that run per question (LUMEN): a number, or a proportion such as 1/3.",
        show_default=False,
    ),
]
MemoryEncoder = Annotated[
    str | None,
    typer.Option(metavar="SRC", help="Take the memory encoder from another checkpoint.", show_default=False),
]
RerankAfter = Annotated[
    int | None,
    typer.Option(metavar="A", help="Score passages after so many live layers (GLIMMER).", show_default=False),
]
RerankKeep = Annotated[
    int | None,
    typer.Option(metavar="N", help="Passages that are read on with, the best.", show_default=False),
]
DecoderSize = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Grow the decoder to a size of T5 (large, xl, ...) or to that of a preset; the function stays.",
        show_default=False,
    ),
]
DecoderLayers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Layers of the decoder that an encoder alone (BERT, MiniLM) gets; 2 by default. It is drawn.",
        show_default=False,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(metavar="S", help="What that decoder is drawn with; 0 by default.", show_default=False),
]

ShareWith = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="A bundled reader, whose weights are not stored again where they are the same.",
        show_default=False,
    ),
]


def convert(
    source: Source,
    destination: Destination,
    to: Annotated[Layout, typer.Option(help="Layout of what is written.")] = Layout.FIDKIT,
    cross_attention_every: CrossAttentionEvery = None,
    cross_attention_from: CrossAttentionFrom = Origin.OWN,
    kv_heads: KvHeads = None,
    kv_heads_from: KvHeadsFrom = Merging.SVD,
    live_layers: LiveLayers = None,
    memory_encoder: MemoryEncoder = None,
    rerank_after: RerankAfter = None,
    rerank_keep: RerankKeep = None,
    decoder: DecoderSize = None,
    decoder_layers: DecoderLayers = None,
    seed: Seed = None,
    extractive: Annotated[
        bool | None,
        typer.Option(
            "--extractive/--free",
            help="Whether its answers have to be pieces of passages.",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[
        Precision, typer.Option(help="How weights are stored; bfloat16 halves the size, int8 rounds.")
    ] = Precision.FLOAT32,
    share_with: ShareWith = None,
) -> None:
    """Convert a checkpoint, and change the reader's shape on the way."""
    _check(destination, to, dtype, extractive, share_with)
    rerank = _rerank(rerank_after, rerank_keep)
    from fidkit.convert import Knobs, decoder_stack, load

    knobs = Knobs(
        cross_attention_every=cross_attention_every,
        cross_attention_from=cross_attention_from.value,
        decoder=None if decoder is None else decoder_stack(decoder),
        decoder_layers=decoder_layers,
        seed=seed,
        kv_heads=kv_heads,
        kv_heads_from=kv_heads_from.value,
        live_layers=live_layers,
        memory_encoder=None if memory_encoder is None else load(memory_encoder)[0],
        rerank=rerank,
    )
    reader, notes = _load(source, knobs, destination, dtype, extractive)
    if to is Layout.FIDKIT:
        reader.save_pretrained(
            destination, dtype=None if dtype is Precision.FLOAT32 else dtype.value, share_with=share_with
        )
    notes += _write(source, reader, destination, to, knobs)
    for line in notes.lines():
        print(line, file=sys.stderr)
    count = sum(p.numel() for p in reader.parameters())
    print(f"{destination}: {count / 1e6:,.1f}M parameters, {to.value}")


def _check(
    destination: Path, to: Layout, dtype: Precision, extractive: bool | None, share_with: str | None
) -> None:
    if (destination.is_dir() and any(destination.iterdir())) or destination.is_file():
        raise UsageError(f"{destination} exists already; give a new or empty directory")
    if to is not Layout.FIDKIT and dtype is not Precision.FLOAT32:
        raise UsageError(f"--dtype goes with --to fidkit; --to {to.value} is written in float32")
    if to is not Layout.FIDKIT and extractive is not None:
        raise UsageError(f"--extractive and --free go with --to fidkit; --to {to.value} knows neither")
    if to is not Layout.FIDKIT and share_with is not None:
        raise UsageError(f"--share-with goes with --to fidkit; --to {to.value} is written whole")
    if share_with is not None and share_with not in assets.READERS:
        raise UsageError(f"--share-with {share_with!r}: expected one of {', '.join(assets.READERS)}")


def _rerank(after: int | None, keep: int | None) -> RerankConfig | None:
    from fidkit.config import RerankConfig, parse

    if (after is None) != (keep is None):
        raise UsageError("--rerank-after and --rerank-keep go together; give both or neither")
    if after is None:
        return None
    rerank: RerankConfig = parse(RerankConfig, {"after": after, "keep": keep}, "--rerank")
    return rerank


def _load(
    source: str, knobs: Knobs, destination: Path, dtype: Precision, extractive: bool | None
) -> tuple[Reader, Notes]:
    """The reader in its new shape, having said how large it becomes."""
    from fidkit.convert import Knobs, Notes, load, reshape
    from fidkit.convert.grow import grown_config
    from fidkit.convert.reshape import UNCALIBRATED

    # Growth changes the decoder alone, so that it can wait until it was said how large that becomes.
    reader, notes = load(source, **Knobs(**{**knobs, "decoder": None}))
    if extractive not in (None, reader.config.extractive):
        reader.config = reader.config.replace(extractive=extractive)
        if reader.calibration is not None:
            notes += Notes(remarks=(UNCALIBRATED,))
        reader.calibration = None  # which is of other answers
    stack = knobs.get("decoder")
    config = reader.config if stack is None else grown_config(reader.config, stack)
    _announce(reader.config, config, destination, _BYTES[dtype])
    if stack is not None:
        reader, more = reshape(reader, decoder=stack)
        notes += more
    return reader, notes


def _write(source: str, reader: Reader, destination: Path, to: Layout, knobs: Knobs) -> Notes:
    """What is written in another layout, or beside the reader."""
    from fidkit.convert import carry_moments, carry_pooling, export_bert, export_fid, export_t5, find_pooling

    if to is Layout.HF_T5:
        return export_t5(reader, destination)
    if to is Layout.FID:
        return export_fid(reader, destination)
    if to is Layout.HF_BERT:
        pooling, notes = find_pooling(source, reader.config.positions)
        return notes + export_bert(reader, destination, pooling)
    return carry_moments(source, reader, destination, **knobs) + carry_pooling(
        source, destination, reader.config.positions
    )


def _announce(before: ReaderConfig, after: ReaderConfig, destination: Path, size: int) -> None:
    """Say what is about to be written, and refuse what the disk has no room for.

    Args:
        before: the reader without growth.
        after: as it is written.
        destination: where.
        size: bytes of a parameter there.

    Raises:
        FidkitError: too little is free.
    """
    from fidkit.cost import parameters

    count, new = parameters(after), parameters(after) - parameters(before)
    added = f"; {new / 1e6:,.1f}M of them are new and not trained yet" if new else ""
    print(f"writing {count / 1e6:,.1f}M parameters, {count * size / 1e9:,.2f} GB{added}", file=sys.stderr)
    place = next(path for path in (destination, *destination.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    if count * size > free:
        raise FidkitError(
            f"{destination}: {count * size / 1e9:,.2f} GB are to be written, but {free / 1e9:,.2f} GB are "
            "free; make room, choose another disk or a smaller reader, or store less with --dtype bfloat16"
        )
