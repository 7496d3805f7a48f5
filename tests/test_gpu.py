"""On a CUDA device: the same reader, the same answers."""

import pytest
import torch

from fidkit import Passage, Reader
from fidkit.batch import collate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
PRESETS = ["tiny-fid", "tiny-fid-light", "tiny-fido", "tiny-memoryfid", "tiny-lumen", "tiny-lumen-fido"]
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


def test_a_reader_on_the_device_answers():
    reader = Reader.from_preset("tiny-fido")
    passages = [Passage("1", "Nile", "The Nile flows north."), Passage("2", "Tea", "Tea comes from China.")]
    on_cpu = reader.answer("where does tea come from?", passages)
    on_cuda = reader.cuda().answer("where does tea come from?", passages)
    assert on_cuda.text == on_cpu.text
    assert [e.passage.id for e in on_cuda.evidence] == [e.passage.id for e in on_cpu.evidence]
