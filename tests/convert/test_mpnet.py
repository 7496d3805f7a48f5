"""Checkpoints of MPNet's layout, against transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from berts import VOCABULARY, bert, reconfigure, save_vocabulary
from fidkit.context import collate
from fidkit.convert import export_bert, load
from fidkit.errors import CheckpointError
from fidkit.types import Passage

transformers = pytest.importorskip("transformers")
TOLERANCE = 1e-5
OURS = {"[PAD]": "<pad>", "[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>"}
WORDS = [OURS.get(word, word) for word in VOCABULARY]
START, END = WORDS.index("<s>"), WORDS.index("</s>")


def mpnet(directory: Path, **sizes: Any) -> Any:
    """A random MPNet, saved with a vocabulary; its norms are not 1, nor its biases 0."""
    torch.manual_seed(0)
    fields = {
        "vocab_size": len(WORDS),
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 40,
        "max_position_embeddings": 66,
        "layer_norm_eps": 1e-5,
    }
    model = transformers.MPNetModel(transformers.MPNetConfig(**fields | sizes)).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.uniform_(0.5, 1.5) if "LayerNorm.weight" in name else p.normal_(0.0, 0.3)
    model.save_pretrained(directory)
    save_vocabulary(directory, WORDS)
    return model


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Any]:
    directory = tmp_path_factory.mktemp("mpnet")
    return directory, mpnet(directory)


@torch.no_grad()
def test_joined_rows_are_mpnets_with_positions_of_ours(made) -> None:
    reader, notes = load(made[0])
    config = reader.config
    assert (config.positions, config.relative_buckets, config.encoder.family) == (64, 32, "mpnet")
    assert any("pooler" in remark for remark in notes.remarks)
    question = reader.tokenizer.question("who wrote it?").ids
    passages = reader.tokenizer.passages([Passage("1", "the a", "text b. " * 8), Passage("2", "", "c")])
    assert question[0] == START
    assert question[-1] == END
    batch = collate([question], [passages])
    found = reader.read_memory(batch, reader.encode_passages(batch.passage_ids, batch.passage_lengths))
    for number, passage in enumerate(passages):
        places = torch.cat(
            [torch.arange(len(question)), torch.arange(len(passage)) + config.passage_position]
        )
        expected = made[1](
            input_ids=torch.tensor([question + passage]), position_ids=(places + 2)[None]
        ).last_hidden_state[0]
        states = found.states_BMD[0, found.passage_BM[0] == number][:, : config.encoder.width]
        torch.testing.assert_close(states, expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_a_fresh_decoder_copies_from_the_start(made) -> None:
    reader, _ = load(made[0], decoder_layers=1)
    assert reader.config.token_skip
    assert reader.config.decoder.layers == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer_norm_eps": 1e-12}, "layer_norm_eps is 1e-12, expected 1e-05"),
        ({"layer_norm_eps": None}, "layer_norm_eps is 1e-12, expected 1e-05"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu', expected 'gelu'"),
        ({"max_position_embeddings": 12}, "max_position_embeddings is 12, expected 16 or more"),
        ({"max_position_embeddings": 65}, "embeddings.position_embeddings.weight"),
        ({"pad_token_id": 0}, "pad_token_id is 0, expected 1"),
        ({"num_hidden_layers": 4}, "encoder.layer.3"),
        ({"relative_attention_num_buckets": 16}, "relative_attention_num_buckets is 16, expected 32"),
    ],
)
def test_what_is_another_model_is_refused(tmp_path, changes, said) -> None:
    mpnet(tmp_path)
    reconfigure(tmp_path, **changes)
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_vocabulary_of_bert_is_not_mpnets(tmp_path) -> None:
    mpnet(tmp_path)
    save_vocabulary(tmp_path)
    with pytest.raises(CheckpointError, match=r"lacks <s>, </s>"):
        load(tmp_path)


def test_heads_of_other_tasks_are_left_out(tmp_path) -> None:
    mpnet(tmp_path)
    path = tmp_path / "model.safetensors"
    renamed = {f"mpnet.{name}": tensor for name, tensor in load_file(path).items()}
    save_file(renamed | {"lm_head.bias": torch.zeros(len(WORDS))}, path)
    _, notes = load(tmp_path)
    assert any("lm_head.bias" in remark for remark in notes.remarks)


def test_bert_can_t_hold_it(made, tmp_path) -> None:
    with pytest.raises(CheckpointError, match="its encoder is mpnet; nothing that can be exported"):
        export_bert(load(made[0])[0], tmp_path)


def test_weights_of_bert_are_not_mpnets_because_somebody_wrote_so(tmp_path) -> None:
    bert(tmp_path)
    reconfigure(tmp_path, model_type="mpnet", layer_norm_eps=1e-5, pad_token_id=1)
    save_vocabulary(tmp_path, WORDS)
    with pytest.raises(CheckpointError, match="missing encoder"):
        load(tmp_path)
