"""On a CUDA device: the same reader, the same answers."""

import pytest
import torch

from fidkit import Passage, Reader
from fidkit.answerer import Answerer
from fidkit.context import collate
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.generate import generate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
PRESETS = ["tiny-fid", "tiny-fid-light", "tiny-fido", "tiny-memoryfid", "tiny-lumen", "tiny-lumen-fido"]
PRESETS += ["tiny-lumen-deep", "tiny-glimmer"]
QUESTIONS = [[5, 6, 7], [5, 6, 7, 8, 9]]
PASSAGES = [[[3, 4, 5, 1], [9, 9, 1]], [[7] * 12 + [1]]]
TARGETS = [[4, 5, 1], [6, 1]]


@pytest.mark.parametrize("preset", PRESETS)
def test_logits_equal_those_of_the_cpu(preset):
    reader = Reader.from_preset(preset)
    batch = collate(QUESTIONS, PASSAGES, TARGETS)
    with torch.no_grad():
        on_cpu = reader(batch).logits
        on_cuda = reader.cuda()(batch.to("cuda")).logits.cpu()
    torch.testing.assert_close(on_cuda, on_cpu, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "open_reader", [lambda: Reader.from_preset("tiny-fido"), lambda: Reader.from_pretrained("pocket")]
)
def test_a_reader_on_the_device_answers(open_reader):
    reader = open_reader()
    passages = [Passage("1", "Nile", "The Nile flows north."), Passage("2", "Tea", "Tea comes from China.")]
    on_cpu = Answerer(reader, device="cpu", precision="as-is").read("where does tea come from?", passages)
    on_cuda = Answerer(reader.cuda(), precision="as-is").read("where does tea come from?", passages)
    assert on_cuda.text == on_cpu.text
    assert [e.passage.id for e in on_cuda.evidence] == [e.passage.id for e in on_cpu.evidence]


@pytest.mark.parametrize("preset", ["tiny-fid", "tiny-fido"])
@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(max_tokens=12),
        Decoding(max_tokens=12, beams=4, n_best=2, no_repeat_ngram=2, stop=((7,),)),
        Decoding(max_tokens=12, temperature=1, top_k=50, n_best=3),
    ],
    ids=["greedy", "beams", "samples"],
)
def test_answers_equal_those_of_the_cpu(preset: str, decoding: Decoding) -> None:
    reader = Reader.from_preset(preset)
    batch = collate(QUESTIONS, PASSAGES)
    with torch.no_grad():
        on_cpu = generate(reader, reader.read(batch), decoding)
        reader.cuda()
        on_cuda = generate(reader, reader.read(batch.to("cuda")), decoding)
    assert on_cuda.ids_BT.tolist() == on_cpu.ids_BT.tolist()
    torch.testing.assert_close(on_cuda.scores.cpu(), on_cpu.scores, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("preset", ["tiny-fid", "tiny-fido"])
@torch.no_grad()
def test_a_step_does_not_wait_for_the_device(preset: str) -> None:
    reader = Reader.from_preset(preset).cuda()
    cache = reader.start(reader.read(collate(QUESTIONS, PASSAGES).to("cuda")), 4, 3)
    ids, rows = torch.full((6,), 5, device="cuda"), torch.tensor([1, 1, 0, 5, 4, 3], device="cuda")
    reader.step(ids, cache)
    torch.cuda.set_sync_debug_mode("error")
    try:
        cache.select(rows)
        reader.step(ids, cache)
    finally:
        torch.cuda.set_sync_debug_mode("default")
