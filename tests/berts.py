"""Small checkpoints of BERT's layout, as transformers and sentence-transformers write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

WORDS = [*"abcdefgh", "##a", "##b", "##c", "who", "wrote", "it", "the", "text", ".", "?", "[", "]", "sep"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]


def save_vocabulary(directory: Path, words: list[str] = VOCABULARY) -> None:
    """A `tokenizer.json` as some come: it fills up and cuts."""
    from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordPiece

    backend = Tokenizer(WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens([word for word in words if word.startswith("[") and len(word) > 1])
    if "[CLS]" in words and "[SEP]" in words:
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[(name, words.index(name)) for name in ("[CLS]", "[SEP]")],
        )
    backend.enable_padding(length=20)
    backend.enable_truncation(10)
    backend.save(str(directory / "tokenizer.json"))


def bert(directory: Path, seed: int = 0, **sizes: Any) -> Any:
    """A random transformers BERT, saved with a vocabulary; its norms are not 1, nor its biases 0."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    fields = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 40,
        "max_position_embeddings": 64,
    }
    model = BertModel(BertConfig(**fields | sizes)).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "LayerNorm.weight" in name:
                p.uniform_(0.5, 1.5)
            else:
                p.normal_(0.0, 0.3)
    model.save_pretrained(directory)
    save_vocabulary(directory)
    return model


def sentences(directory: Path, way: str = "mean", modules: tuple[str, ...] = ("Normalize",)) -> None:
    """What sentence-transformers writes around an encoder."""
    names = ["Transformer", "Pooling", *modules]
    listed = [
        {
            "idx": n,
            "name": str(n),
            "path": f"{n}_{name}" if n else "",
            "type": f"sentence_transformers.models.{name}",
        }
        for n, name in enumerate(names)
    ]
    (directory / "modules.json").write_text(json.dumps(listed))
    (directory / "1_Pooling").mkdir()
    ways = {"mean_tokens": "mean", "cls_token": "cls", "max_tokens": "max"}
    record = {f"pooling_mode_{key}": name == way for key, name in ways.items()}
    (directory / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 24, **record})
    )
    (directory / "sentence_bert_config.json").write_text('{"max_seq_length": 12, "do_lower_case": false}')


def reconfigure(directory: Path, **changes: Any) -> None:
    """Another `config.json`."""
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
