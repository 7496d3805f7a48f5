"""Checkpoints of BERT's layout, in and out, against transformers."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from berts import VOCABULARY, bert, reconfigure, save_vocabulary, sentences
from fidkit.cli.app import run
from fidkit.context import collate
from fidkit.convert import export_bert, export_t5, import_hf, load
from fidkit.errors import CheckpointError, ConfigError
from fidkit.nn.encoder import EncoderLayers
from fidkit.nn.rows import Rows
from fidkit.reader import Reader
from fidkit.types import Passage
from oracles import random_reader, small, stack

pytest.importorskip("transformers")
CLS, SEP = VOCABULARY.index("[CLS]"), VOCABULARY.index("[SEP]")
TOLERANCE = 1e-5


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def renamed(directory: Path, rename, **more: torch.Tensor) -> None:
    tensors = {rename(name): tensor for name, tensor in weights(directory).items()}
    save_file(tensors | more, directory / "model.safetensors")


def refused(directory: Path, **knobs) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(directory, **knobs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# In


@torch.no_grad()
def test_joined_rows_are_berts_with_positions_and_types_of_ours(made) -> None:
    """`[CLS] question [SEP] title [SEP] text [SEP]`, the passage from a fixed position on."""
    reader, _ = load(made[0])
    config = reader.config
    question = reader.tokenizer.question("who wrote it?").ids
    passages = reader.tokenizer.passages([Passage("1", "the a", "text b."), Passage("2", "", "c")])
    batch = collate([question], [passages])
    found = reader.read_memory(batch, reader.encode_passages(batch.passage_ids, batch.passage_lengths))
    places = found.passage_BM[0]
    for number, passage in enumerate(passages):
        ids = torch.tensor([question + passage])
        behind = torch.arange(len(passage)) + config.passage_position
        expected = made[1](
            input_ids=ids,
            position_ids=torch.cat([torch.arange(len(question)), behind])[None],
            token_type_ids=torch.tensor([[0] * len(question) + [1] * len(passage)]),
        ).last_hidden_state[0]
        states = found.states_BMD[0, places == number][:, : config.encoder.width]
        torch.testing.assert_close(states, expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert question == [CLS, *map(VOCABULARY.index, ["who", "wrote", "it", "?"]), SEP]
    assert passages[1] == [SEP, VOCABULARY.index("c"), SEP]


@torch.no_grad()
def test_gradients_are_berts(made) -> None:
    reader, _ = load(made[0])
    reader.requires_grad_(True)
    ids = torch.tensor([[CLS, 5, 6, 7, SEP]])
    with torch.enable_grad():
        rows = Rows(torch.tensor([5]))
        embedded = reader.embedding.of_rows(ids[0], rows, "question")
        reader.live_encoder(embedded, rows).pow(2).sum().backward()
        made[1].zero_grad()
        made[1](input_ids=ids).last_hidden_state.pow(2).sum().backward()
    theirs = dict(made[1].named_parameters())
    for ours, name in (
        ("embedding.weight", "embeddings.word_embeddings.weight"),
        ("embedding.positions.weight", "embeddings.position_embeddings.weight"),
        ("embedding.norm.bias", "embeddings.LayerNorm.bias"),
        ("live_encoder.layers.0.attention.query.weight", "encoder.layer.0.attention.self.query.weight"),
        ("live_encoder.layers.1.feed_forward.inner.bias", "encoder.layer.1.intermediate.dense.bias"),
        ("live_encoder.layers.2.feed_forward_norm.weight", "encoder.layer.2.output.LayerNorm.weight"),
    ):
        found, expected = dict(reader.named_parameters())[ours].grad, theirs[name].grad
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        assert expected.abs().max() > 0


def test_other_names_are_the_same(made, source: Path) -> None:
    expected = load(made[0])[0].fingerprint()

    def old(name: str) -> str:
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        return f"bert.{name}"

    heads = {"cls.predictions.bias": torch.zeros(3), "classifier.weight": torch.zeros(2, 24)}
    renamed(source, old, **heads, **{"bert.embeddings.position_ids": torch.arange(64)[None]})
    reader, notes = load(source)
    assert reader.fingerprint() == expected
    assert any(
        "left out" in remark and "4 tensors (classifier.weight, cls." in remark for remark in notes.remarks
    )


def test_half_precision_is_widened(source: Path) -> None:
    save_file({n: t.half() for n, t in weights(source).items()}, source / "model.safetensors")
    reader, notes = load(source)
    assert reader.embedding.weight.dtype == torch.float32
    assert "weights stored as float16 are kept as float32" in notes.remarks


def test_a_list_of_words_is_a_vocabulary(made, source: Path) -> None:
    (source / "tokenizer.json").unlink()
    (source / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    text = "Who wrote [SEP] it?"
    theirs, ours = (load(place)[0].tokenizer for place in (made[0], source))
    assert ours.question(text) == theirs.question(text)
    assert ours.decode([5, 13]) == theirs.decode([5, 13]) == "aa"
    (source / "tokenizer_config.json").write_text('{"do_lower_case": false, "strip_accents": "no"}')
    assert load(source)[0].tokenizer.encode("Who a") == [VOCABULARY.index(word) for word in ("[UNK]", "a")]
    (source / "vocab.txt").write_text("a\nb\n")
    assert "vocab.txt: lacks [UNK], [PAD], [CLS], [SEP]" in refused(source)
    (source / "tokenizer_config.json").write_text('{"tokenizer_class": "BertJapaneseTokenizer"}')
    assert "belongs to BertJapaneseTokenizer" in refused(source)


def test_control_tokens_in_texts_are_text(made) -> None:
    tokenizer = load(made[0])[0].tokenizer
    [ids] = tokenizer.passages([Passage("1", "[SEP]", "[CLS] a [SEP]")])
    assert [n for n, token in enumerate(ids) if token == SEP] == [3, len(ids) - 1]
    assert CLS not in ids
    assert tokenizer.question("[SEP]").ids[1:-1] == [VOCABULARY.index(piece) for piece in ("[", "sep", "]")]


def test_rows_are_cut_by_us_alone(made) -> None:
    reader, _ = load(made[0])
    config, long = reader.config, "a " * 100
    assert (config.question_tokens, config.passage_position, config.passage_tokens) == (16, 16, 48)
    asked = reader.tokenizer.question(long)
    assert (len(asked.ids), asked.ids[-1], asked.dropped) == (16, SEP, 100 - 14)
    [passage] = reader.tokenizer.passages([Passage("1", "a", long)])
    assert (len(passage), passage[-1]) == (48, SEP)


# A decoder


def test_the_decoder_is_drawn_by_its_seed(made) -> None:
    first, notes = load(made[0], decoder_layers=1)
    again, other = load(made[0], decoder_layers=1)[0], load(made[0], decoder_layers=1, seed=1)[0]
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    assert torch.equal(first.embedding.weight, other.embedding.weight)
    assert first.config.decoder.layers == 1
    assert (load(made[0])[0].config.decoder.layers, first.config.token_skip) == (2, True)
    assert any("the decoder is new: 1 layers of width 24" in remark for remark in notes.remarks)


def test_a_decoder_that_is_there_is_not_drawn(tmp_path: Path) -> None:
    export_t5(random_reader(small()), tmp_path)
    with pytest.raises(ConfigError, match="this checkpoint has a decoder"):
        load(tmp_path, decoder_layers=2)


@pytest.mark.parametrize("live", [0, 1, 2])
@torch.no_grad()
def test_a_split_encoder_keeps_the_passages_states(made, live: int) -> None:
    reader, _ = load(made[0], live_layers=live)
    whole, _ = load(made[0])
    ids, lengths = torch.tensor([[5, 6, 7, SEP]]), torch.tensor([4])
    layers = whole.live_encoder.parts(3 - live)[0]
    rows = Rows(lengths)
    expected = layers(whole.embedding.of_rows(ids[0], rows, "passage"), rows)
    assert torch.equal(reader.encode_passages(ids, lengths), expected)


# Out


def test_out_again_bit_for_bit(
    made, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import BertModel

    sentences(source)
    reader, back = str(tmp_path / "reader"), tmp_path / "back"
    assert run(["convert", str(source), reader, "--decoder-layers", "1", "--live-layers", "1"]) == 0
    assert run(["convert", reader, str(back), "--to", "hf-bert"]) == 0
    said = capsys.readouterr().err
    assert "the decoder isn't written" in said
    kept = {n: t for n, t in weights(source).items() if not n.startswith("pooler.")}
    again = weights(back)
    assert kept.keys() == again.keys()
    assert all(torch.equal(t, again[n]) for n, t in kept.items())
    model = BertModel.from_pretrained(back).eval()
    ids = torch.tensor([[CLS, 5, 6, SEP]])
    assert torch.equal(model(ids).last_hidden_state, made[1](ids).last_hidden_state)
    assert json.loads((back / "1_Pooling" / "config.json").read_text())["pooling_mode_mean_tokens"] is True
    assert (
        load(back, decoder_layers=1, live_layers=1)[0].fingerprint()
        == Reader.from_pretrained(reader).fingerprint()
    )


def test_only_berts_encoders_go_out_as_bert(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"its encoder is t5-v1\.1"):
        export_bert(random_reader(small()), tmp_path)


# As the memory encoder of another reader


@torch.no_grad()
def test_a_memory_encoder_with_its_own_vocabulary(made, tmp_path: Path) -> None:
    t5 = Reader.from_preset("tiny-fid")
    t5.save_pretrained(tmp_path)
    lumen, notes = load(tmp_path, live_layers=1, memory_encoder=load(made[0])[0])
    config, bert_reader = lumen.config, load(made[0])[0]
    assert (config.memory_stack.family, config.memory_vocabulary_size) == ("bert", len(VOCABULARY))
    assert any("a vocabulary of their own" in remark for remark in notes.remarks)
    assert any("cut to 48 tokens" in remark for remark in notes.remarks)
    passage = Passage("1", "the a", "text b.")
    assert lumen.tokenizer.passages([passage]) == bert_reader.tokenizer.passages([passage])
    assert lumen.tokenizer.question("who?") == t5.tokenizer.question("who?")
    ids = torch.tensor(lumen.tokenizer.passages([passage]))
    rows = Rows(torch.tensor([ids.shape[1]]))
    embedded = bert_reader.embedding.of_rows(ids[0], rows, "passage")
    expected = EncoderLayers.forward(bert_reader.live_encoder, embedded, rows)
    assert torch.equal(lumen.encode_passages(ids, rows.lengths), expected)
    lumen.save_pretrained(tmp_path / "lumen")
    assert Reader.from_pretrained(tmp_path / "lumen").tokenizer.passages([passage]) == ids.tolist()


def test_positions_of_two_encoders_are_one(made, tmp_path: Path) -> None:
    other = tmp_path / "other"
    bert(other, max_position_embeddings=80)
    assert "positions is 80, expected 64" in refused(made[0], live_layers=1, memory_encoder=load(other)[0])


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_type": "roberta"},
            "model_type is 'roberta', expected 't5', .*roberta is no BERT: its positions",
        ),
        ({"model_type": ["bert"]}, "model_type is ['bert'], expected 't5'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu', expected 'gelu'"),
        (
            {"position_embedding_type": "relative_key"},
            "position_embedding_type is 'relative_key', expected 'absol",
        ),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-05, expected 1e-12"),
        ({"is_decoder": True}, "is_decoder is True, expected False"),
        ({"num_attention_heads": 5}, "5 num_attention_heads must divide hidden_size 24"),
        ({"num_hidden_layers": 4}, "missing encoder.layer.3."),
        ({"vocab_size": 20}, "embeddings.word_embeddings.weight is [26, 24], expected [20, 24]"),
        ({"max_position_embeddings": 4}, "max_position_embeddings is 4, expected 16 or more"),
    ],
)
def test_what_is_no_encoder_of_this_layout(changes: dict, message: str, source: Path) -> None:
    reconfigure(source, **changes)
    said = refused(source)
    assert all(part in said for part in message.split(".*")), said


def test_vocabularies_that_do_not_fit(source: Path) -> None:
    save_vocabulary(source, [*VOCABULARY, "more"])
    assert f"{len(VOCABULARY) + 1} tokens, but the reader has {len(VOCABULARY)} embeddings" in refused(source)
    save_vocabulary(source, ["[PAD]", "[UNK]", "[CLS]", "a"])
    assert "its vocabulary lacks [SEP]" in refused(source)
    save_vocabulary(source, VOCABULARY[:-2])
    assert f"2 of its {len(VOCABULARY)} embeddings have no token" in load(source)[1].remarks
    (source / "tokenizer.json").unlink()
    assert "no vocabulary; expected its tokenizer.json or vocab.txt" in refused(source)


def test_two_encoders_in_one_file(source: Path) -> None:
    more = {f"question.{n}": t.clone() for n, t in weights(source).items()}
    renamed(source, lambda name: f"passage.{name}", **more)
    assert "holds 2 models, named passage.…, question.…" in refused(source)


def test_tensors_of_another_model(source: Path) -> None:
    renamed(source, lambda name: name, **{"encoder.layer.0.attention.rotary.weight": torch.zeros(3)})
    assert "unexpected encoder.layer.0.attention.rotary.weight" in refused(source)


def test_import_hf_is_what_load_calls(made) -> None:
    assert import_hf(made[0])[0].fingerprint() == load(made[0])[0].fingerprint()


def test_wrong_use(made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", str(made[0]), str(tmp_path / "x"), "--decoder-layers", "0"]) == 2
    assert "decoder.layers" in capsys.readouterr().err
    t5 = random_reader(small(encoder=stack(), decoder=stack(2)))
    export_t5(t5, tmp_path / "t5")
    assert run(["convert", str(tmp_path / "t5"), str(tmp_path / "x"), "--to", "hf-bert"]) == 1
    refusal = capsys.readouterr().err
    assert "BERT can't hold this reader" in refusal
    assert "export it with --to hf-t5" in refusal
