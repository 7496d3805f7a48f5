import os
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from fidkit.errors import CheckpointError
from fidkit.tokens import Tokenizer, require_embeddings
from fidkit.types import Passage
from oracles import small

CONFIG = small(vocabulary_size=16384, question_tokens=12, passage_tokens=20)
PASSAGE = Passage("1", "Tides", "The moon pulls at the water, and the water rises.")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.bundled(CONFIG)


def test_a_question_has_its_prefix_and_no_end(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.question("  who pulls? ")
    assert tokenizer.decode(tokens.ids) == "question: who pulls?"
    assert CONFIG.end_token not in tokens.ids
    assert tokens.dropped == 0


def test_a_long_question_is_cut_and_said(tokenizer: Tokenizer) -> None:
    whole = Tokenizer(tokenizer.backend, CONFIG.replace(question_tokens=500)).question("why " * 40).ids
    tokens = tokenizer.question("why " * 40)
    assert tokens.ids == whole[:12]
    assert tokens.dropped == len(whole) - 12 > 0


def test_a_passage_ends(tokenizer: Tokenizer) -> None:
    (ids,) = tokenizer.passages([PASSAGE])
    assert ids[-1] == CONFIG.end_token
    assert ids.count(CONFIG.end_token) == 1
    assert tokenizer.decode(ids).startswith("title: Tides context: The moon")


def test_a_long_passage_is_cut_before_its_end(tokenizer: Tokenizer) -> None:
    (ids,) = tokenizer.passages([Passage("1", "", "water " * 100)])
    assert len(ids) == 20
    assert ids[-1] == CONFIG.end_token


def test_passages_are_tokenised_each_by_itself(tokenizer: Tokenizer) -> None:
    others = [PASSAGE, Passage("2", "", ""), Passage("3", "x", "y")]
    assert tokenizer.passages(others) == [tokenizer.passages([p])[0] for p in others]
    assert tokenizer.passages([]) == []


def test_targets(tokenizer: Tokenizer) -> None:
    ids = tokenizer.target("the moon")
    assert ids[-1] == CONFIG.end_token
    assert tokenizer.decode(ids) == "the moon"
    assert tokenizer.target("the moon", 2) == [ids[0], CONFIG.end_token]


def test_decoding_stops_at_the_end(tokenizer: Tokenizer) -> None:
    ids = tokenizer.target("the moon")
    assert tokenizer.decode([*ids, *tokenizer.target("or the sun")]) == "the moon"
    assert tokenizer.decode([CONFIG.end_token]) == tokenizer.decode([]) == ""


@pytest.mark.parametrize("text", ["naïve café", "東京", "1,234.5 km²", "a\tb\nc", "🌊", ""])
def test_any_text_can_be_tokenised(tokenizer: Tokenizer, text: str) -> None:
    (ids,) = tokenizer.passages([Passage("1", text, text)])
    assert all(0 <= i < CONFIG.vocabulary_size for i in ids)


def test_braces_in_texts_are_text(tokenizer: Tokenizer) -> None:
    assert "{title}" in tokenizer.decode(tokenizer.passages([Passage("1", "{title}", "{0}")])[0])


def test_the_fingerprint_follows_what_changes_a_passages_tokens(tokenizer: Tokenizer) -> None:
    def fingerprint(**changes) -> str:
        return Tokenizer(tokenizer.backend, CONFIG.replace(**changes)).fingerprint

    assert fingerprint() == tokenizer.fingerprint
    assert fingerprint(question_tokens=30, live_layers=1) == tokenizer.fingerprint
    others = {fingerprint(passage_tokens=21), fingerprint(passage_format="{text}"), fingerprint(end_token=2)}
    assert len(others | {tokenizer.fingerprint}) == 4


def test_saved_and_loaded(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    again = Tokenizer.load(tmp_path / "tokenizer.json", CONFIG)
    assert again.fingerprint == tokenizer.fingerprint


def test_files_that_hold_no_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with pytest.raises(CheckpointError, match=r"expected a tokenizer\.json"):
        Tokenizer.load(path, CONFIG)
    path.write_text("{}")
    with pytest.raises(CheckpointError, match=r"expected a tokenizer\.json"):
        Tokenizer.load(path, CONFIG)


def test_more_tokens_than_embeddings() -> None:
    with pytest.raises(CheckpointError, match="16384 tokens, but the reader has 37 embeddings"):
        Tokenizer.bundled(small())


@pytest.mark.parametrize("text", ["a </s> b", "a <pad> b", "a <extra_id_0> b"])
def test_what_looks_like_a_control_token_is_text(tokenizer: Tokenizer, text: str) -> None:
    for ids in (tokenizer.target(text)[:-1], tokenizer.question(text).ids):
        assert not {CONFIG.pad_token, CONFIG.end_token, 3} & set(ids)
    assert tokenizer.decode(tokenizer.target(text)) == text


def test_cloze_questions_may_hold_a_mask(tokenizer: Tokenizer) -> None:
    assert 3 in tokenizer.question("a <extra_id_0> b", sentinels=True).ids


# Vocabularies of others

PIECES = ["<pad>", "</s>", "<unk>", *"▁abcdeiknprstux_<>/012", "▁a", "<extra_id_0>"]
HOSTILE = ["</s>", "a </s> b", "a</s>b", "<pad>", "<unk>", "a <extra_id_0> b", "<extra_id_0></s>"]


def t5_like(
    *, special: bool = True, normalized: bool = False, word: str | None = None
) -> tokenizers.Tokenizer:
    """As T5's tokenizer.json on the hub: control tokens are pieces of a Unigram model and added tokens."""
    scores = [0.0 if piece.startswith("<") and piece != "<" else -float(n) for n, piece in enumerate(PIECES)]
    backend = tokenizers.Tokenizer(models.Unigram(list(zip(PIECES, scores, strict=True)), unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    controls = [p for p in PIECES if p.startswith("<") and len(p) > 1] + ["<extra_id_1>"]
    tokens = [tokenizers.AddedToken(c, special=special, normalized=normalized) for c in controls]
    (backend.add_special_tokens if special else backend.add_tokens)(tokens)
    if word is not None:
        backend.add_tokens([tokenizers.AddedToken(word, special=False)])
    return backend


@pytest.mark.parametrize("text", [*HOSTILE, "b <extra_id_1> a"])
@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("special", [True, False])
def test_control_tokens_in_texts_are_text_with_t5s_vocabulary_too(
    special: bool, normalized: bool, text: str, tmp_path: Path
) -> None:
    backend = t5_like(special=special, normalized=normalized)
    controls = set(backend.get_added_tokens_decoder())
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(
        tmp_path / "tokenizer.json", small().replace(question_format="{question}", passage_format="{text}")
    )
    (passage,) = tokenizer.passages([Passage("1", "", text)])
    for ids in (passage[:-1], tokenizer.question(text).ids, tokenizer.target(text)[:-1]):
        assert controls.isdisjoint(ids)
    assert tokenizer.decode(passage) == text
    tokenizer.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


def test_other_texts_and_added_words_keep_their_numbers() -> None:
    backend = t5_like(word="nice")
    plain = tokenizers.Tokenizer.from_str(backend.to_str())
    tokenizer = Tokenizer(backend, small().replace(vocabulary_size=100))
    for text in ("a b c", "abc nice card", "unknown ü", "1 < 2 / 0 > s"):
        assert tokenizer.encode(text) == plain.encode(text, add_special_tokens=False).ids
    assert plain.token_to_id("nice") in tokenizer.encode("a nice b")


def test_a_sentinel_stays_one_beside_an_end_that_is_text() -> None:
    tokenizer = Tokenizer(t5_like(), small().replace(question_format="{question}"))
    ids = tokenizer.question("a </s> <extra_id_0>", sentinels=True).ids
    assert PIECES.index("<extra_id_0>") in ids
    assert 1 not in ids


def test_words_of_a_word_level_vocabulary() -> None:
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    assert Tokenizer(backend, small()).encode("a </s> a") == [3, 2, 3]


@pytest.mark.parametrize(
    ("numbers", "embeddings", "says"),
    [
        ((0, 1, 9), 5, "has a token numbered 9, but the reader has 5 embeddings"),
        ((0, 1, 9), 9, "has a token numbered 9, but the reader has 9 embeddings"),
        ((0, 1, 2), 2, "3 tokens, but the reader has 2 embeddings"),
        ((0, 1, 9), 10, None),
        ((0, 1, 2), 3, None),
    ],
)
def test_every_token_has_an_embedding(numbers: tuple[int, ...], embeddings: int, says: str | None) -> None:
    words = dict(zip(("<unk>", "a", "b"), numbers, strict=True))
    backend = tokenizers.Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    if says is None:
        require_embeddings(backend, embeddings, Path("here"))
        return
    with pytest.raises(CheckpointError, match=says):
        require_embeddings(backend, embeddings, Path("here"))


def test_readers_share_the_vocabulary_of_a_file_that_did_not_change(tmp_path: Path) -> None:
    config, path = CONFIG, tmp_path / "tokenizer.json"
    Tokenizer.bundled(config).save(path)
    first = Tokenizer.load(path, config)
    assert Tokenizer.load(path, config).backend is first.backend
    with pytest.raises(CheckpointError, match="embeddings"):
        Tokenizer.load(path, config.replace(vocabulary_size=100))
    other = tokenizers.Tokenizer.from_file(str(path))
    other.add_tokens(["\N{SNOWMAN}"])
    other.save(str(path))
    again = Tokenizer.load(path, config.replace(vocabulary_size=config.vocabulary_size + 8))
    assert again.backend.token_to_id("\N{SNOWMAN}") is not None
    assert first.backend.token_to_id("\N{SNOWMAN}") is None
    path.unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        Tokenizer.load(path, config)


def test_a_vocabulary_of_the_same_size_is_another_one_and_a_link_to_it_is_none(tmp_path: Path) -> None:
    config, path, link = CONFIG.replace(vocabulary_size=16400), tmp_path / "a.json", tmp_path / "link.json"

    def saved(path: Path, mark: str) -> None:
        made = tokenizers.Tokenizer.from_str(Tokenizer.bundled(CONFIG).backend.to_str())
        made.add_tokens([mark])
        made.save(str(path))

    used = []  # a vocabulary is forgotten once no reader has it

    def knows(mark: str) -> bool:
        used.append(Tokenizer.load(path, config))
        return used[-1].backend.token_to_id(mark) is not None

    saved(path, "\N{SNOWMAN}")
    link.symlink_to(path)
    assert knows("\N{SNOWMAN}")
    assert Tokenizer.load(link, config).backend is used[0].backend
    written = path.stat()
    saved(path, "\N{COMET}")  # into the same file
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns + 1))
    assert path.stat().st_size == written.st_size
    assert knows("\N{COMET}")
    written = path.stat()
    saved(tmp_path / "new.json", "\N{UMBRELLA}")  # put in its place, as old as it is
    os.utime(tmp_path / "new.json", ns=(written.st_atime_ns, written.st_mtime_ns))
    assert (tmp_path / "new.json").stat().st_ino != written.st_ino
    (tmp_path / "new.json").replace(path)
    assert knows("\N{UMBRELLA}")
