"""The decoder-only peer reads all passages in one prompt, once."""

import pytest
import torch

from bench.toy import CPU, RAGGED
from fidkit.bench.decoder_only import SIZES, DecoderOnly, pad_prompts, prompts
from fidkit.bench.questions import Questions
from fidkit.cost import Workload

pytest.importorskip("transformers")

SMALL = SIZES | {
    "vocab_size": 53,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
TOKENS = 6


def prepared(questions: Questions) -> DecoderOnly:
    peer = DecoderOnly("float32", CPU, SMALL)
    peer.prepare(questions)
    return peer


def only(number: int) -> Questions:
    return Questions([RAGGED.questions[number]], [RAGGED.passages[number]])


@torch.inference_mode()
def test_encoding_is_the_prefill_of_all_passages_and_the_question() -> None:
    peer = prepared(only(0))
    assert prompts(only(0)) == [[3, 4, 5, 6, 7, 8, 11, 20, 21, 22, 5, 6, 7]]
    peer.encode()
    assert peer.cache.get_seq_length() == 13
    assert peer.model.config._attn_implementation == "sdpa"
    # The whole model over the whole prompt, without a cache.
    logits = peer.model(input_ids=torch.tensor(prompts(only(0))), use_cache=False).logits
    assert peer.first_B.tolist() == logits[:, -1].argmax(-1).tolist()
    keys = peer.cache.layers[1].keys.clone()
    other = Questions(RAGGED.questions[:1], [[[4, *RAGGED.passages[0][0][1:]], *RAGGED.passages[0][1:]]])
    changed = prepared(other)
    changed.encode()
    assert not torch.allclose(changed.cache.layers[1].keys[:, :, -1], keys[:, :, -1])


@torch.inference_mode()
def test_answers_are_those_of_generate() -> None:
    peer = prepared(only(0))
    prompt = torch.tensor(prompts(only(0)))
    wanted = peer.model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=TOKENS, do_sample=False
    )
    peer.encode()
    assert peer.decode(TOKENS).tolist() == wanted[:, prompt.shape[1] :].tolist()


@torch.inference_mode()
def test_a_batch_writes_what_its_questions_write_alone() -> None:
    together = prepared(RAGGED)
    together.encode()
    alone = [prepared(only(number)) for number in range(2)]
    for peer in alone:
        peer.encode()
    assert together.decode(TOKENS).tolist() == [peer.decode(TOKENS)[0].tolist() for peer in alone]


@torch.inference_mode()
def test_answers_start_anew_from_the_prompt() -> None:
    peer = prepared(RAGGED)
    peer.encode()
    few, all_of_it = peer.decode(2), peer.decode(TOKENS)
    assert all_of_it.shape == (2, TOKENS)
    assert torch.equal(few, all_of_it[:, :2])
    assert torch.equal(peer.decode(TOKENS), all_of_it)
    assert peer.cache.get_seq_length() == peer.ids.shape[1] + TOKENS - 1


def test_prompts_are_padded_on_the_left() -> None:
    ids, mask = pad_prompts([[5, 6], [7]], CPU)
    assert ids.tolist() == [[5, 6], [0, 7]]
    assert mask.tolist() == [[1, 1], [0, 1]]


def test_needs() -> None:
    peer = prepared(RAGGED)
    workload = Workload(passages=3, passage_tokens=6, question_tokens=3)
    matrices = sum(p.numel() for p in peer.model.parameters() if p.ndim == 2)
    assert peer.needs(workload).weights == 4 * matrices
    assert peer.needs(workload.replace(passages=6)).working > peer.needs(workload).working


def test_half_a_billion_parameters() -> None:
    peer = DecoderOnly("bfloat16", CPU)
    assert peer.needs(Workload()).weights / 2 == pytest.approx(0.494e9, rel=0.01)
    assert peer.facts.config == {"model": "Qwen2ForCausalLM", **SIZES}
