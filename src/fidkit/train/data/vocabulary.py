"""A Unigram vocabulary for readers trained from scratch.

A reader learns to copy answers out of passages, so an answer must be the same tokens wherever it
stands. Plain SentencePiece breaks that: `2022` in `(2022)` becomes part of `▁(2022`. Here punctuation
stands alone and carries the spacing itself, marked with a joiner (`(2022)` is `(￭`, `2022`, `￭)`), so
that every word is the same piece in every place. Text comes back as it was, up to white space (a leading
space stays: `Tokenizer.decode` strips it).

    python -m fidkit.train.data.vocabulary SOURCE... --to tokenizer.json
"""

from __future__ import annotations

import argparse
import gzip
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from fidkit.questions.fields import parse_json

JOINER = "￭"
SPACE = "▁"
SENTINELS = 100
SPECIAL = ["<pad>", "</s>", "<unk>", *(f"<extra_id_{i}>" for i in range(SENTINELS))]
BYTES = [f"<0x{i:02X}>" for i in range(256)]

_WORD = r"\p{L}\p{N}\p{M}" + JOINER
_MARK = rf"[^\s{_WORD}.,'’]"
# A joiner goes on each side where a mark touches something. Not inside numbers (3.5, 1,000), and not
# after an apostrophe, so that 's stays one piece.
_BEFORE = rf"(?<=\S)(?={_MARK}|['’])|(?<=[^\s\p{{N}}])(?=[.,])|(?<=\p{{N}})(?=[.,](?!\p{{N}}))"
_AFTER = rf"(?<={_MARK})(?=\S)|(?<=[.,])(?=[^\s\p{{N}}])|(?<=[^\p{{N}}][.,])(?=\p{{N}})"


def frame(model: models.Unigram) -> tokenizers.Tokenizer:
    """A tokenizer around `model`: the normaliser that sets joiners, and the decoder that removes them."""
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(JOINER, " "),
            normalizers.Replace(SPACE, " "),
            normalizers.Replace(Regex(_BEFORE), " " + JOINER),
            normalizers.Replace(Regex(_AFTER), JOINER + " "),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always", split=True)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Replace(SPACE, " "),
            decoders.Replace(" " + JOINER, ""),
            decoders.Replace(JOINER + " ", ""),
            decoders.Replace(JOINER, ""),
        ]
    )
    return tokenizer


def train_vocabulary(texts: Iterable[str], size: int) -> tokenizers.Tokenizer:
    """Train a vocabulary of `size` tokens: specials, 256 bytes for what no piece covers, pieces.

    SentencePiece does the training (extra `train`), on text whose joiners are already set.

    Args:
        texts: one text an item, read once.
        size: tokens in all.
    """
    from sentencepiece import SentencePieceTrainer

    normalise = frame(models.Unigram()).normalizer.normalize_str
    with tempfile.TemporaryDirectory() as folder:
        SentencePieceTrainer.train(
            sentence_iterator=(normalise(text) for text in texts),
            model_prefix=f"{folder}/pieces",
            vocab_size=size - len(SPECIAL) - len(BYTES) + 1,
            hard_vocab_limit=False,
            model_type="unigram",
            normalization_rule_name="identity",
            character_coverage=0.9998,
            split_by_unicode_script=False,
            split_by_number=False,
            max_sentence_length=1 << 20,
            bos_id=-1,
            eos_id=-1,
            unk_id=0,
            minloglevel=2,
        )
        lines = Path(folder, "pieces.vocab").read_text(encoding="utf-8").splitlines()
    scored = (line.rsplit("\t", 1) for line in lines)
    pieces = {piece: float(score) for piece, score in scored if piece != "<unk>"}
    pieces |= _joined_marks(pieces)
    likeliest = sorted(pieces.items(), key=lambda item: -item[1])
    return assemble(likeliest[: size - len(SPECIAL) - len(BYTES)])


def _joined_marks(pieces: dict[str, float]) -> dict[str, float]:
    """A mark with the joiner behind it as one piece, which SentencePiece does not learn by itself."""
    marks = re.compile(rf"{SPACE}{JOINER}?[^\w{JOINER}]")
    return {piece + JOINER: score for piece, score in pieces.items() if marks.fullmatch(piece)}


def assemble(pieces: list[tuple[str, float]]) -> tokenizers.Tokenizer:
    """A tokenizer of specials, bytes and `pieces` with their log-probabilities."""
    # Bytes must be the last resort: less likely than any piece.
    floor = min(score for _, score in pieces) - 10.0
    rows = [(name, 0.0) for name in SPECIAL] + [(name, floor) for name in BYTES] + pieces
    tokenizer = frame(models.Unigram(rows, SPECIAL.index("<unk>"), True))
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def _texts(files: list[Path], every: int) -> Iterator[str]:
    for path in files:
        with (
            gzip.open(path, "rt", encoding="utf-8")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8") as lines
        ):
            for number, line in enumerate(lines):
                if number % every == 0:
                    record = parse_json(line, f"{path}:{number + 1}")
                    yield " ".join(
                        str(record[key]) for key in ("title", "text", "question", "target") if record.get(key)
                    )


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Train a Unigram vocabulary.")
    parser.add_argument(
        "files", nargs="+", type=Path, help="JSONL files with title, text, question or target"
    )
    parser.add_argument("--to", required=True, type=Path, help="the tokenizer.json to write")
    parser.add_argument("--size", default=16384, type=int, help="tokens in all")
    parser.add_argument("--every", default=1, type=int, help="take every n-th line")
    options = parser.parse_args()
    train_vocabulary(_texts(options.files, options.every), options.size).save(str(options.to))


if __name__ == "__main__":
    main()
