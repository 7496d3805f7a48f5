import torch

from fidkit.memory import MemoryStore
from memory.toy import key, row


def test_what_was_stored_comes_back_bit_for_bit(build):
    with MemoryStore.open(build(range(10), range(10, 30))) as store:
        numbers = [29, 3, 3, 12, 0]
        memory, lengths = store.get([key(n) for n in numbers])
        assert lengths == [len(row(n)) for n in numbers]
        assert torch.equal(memory, torch.cat([row(n) for n in numbers]))
