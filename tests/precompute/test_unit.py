import numpy as np
import pytest

from fidkit.errors import MemoryStoreError
from fidkit.precompute.unit import Identity, id_dtype, read_unit, write_unit

IDENTITY = Identity("f" * 64, "bf16", "float32")
KEYS = [bytes([n]) * 15 + b"\0" for n in range(3)]


@pytest.fixture
def unit(tmp_path):
    path = tmp_path / "units" / "unit-000001.safetensors"
    path.parent.mkdir()
    write_unit(path, IDENTITY, 99, KEYS, [np.array(ids, np.uint16) for ids in ([5, 65535], [1], [2, 3, 4])])
    return path


def test_a_unit_comes_back_as_it_was(unit):
    read = read_unit(unit)
    assert (read.identity, read.batch_tokens, read.keys) == (IDENTITY, 99, KEYS)
    assert read.lengths.tolist() == [2, 1, 3]
    assert read.ids.tolist() == [5, 65535, 1, 2, 3, 4]
    assert [entry.name for entry in unit.parent.iterdir()] == [unit.name]


def test_ids_are_as_narrow_as_the_vocabulary_allows():
    assert id_dtype(1 << 16) is np.uint16
    assert id_dtype((1 << 16) + 1) is np.int32


def test_every_byte_of_a_unit_matters(unit):
    """A flipped bit is refused, or changed nothing that is read."""
    whole, before = unit.read_bytes(), repr(read_unit(unit))
    refused = 0
    for at in range(len(whole)):
        unit.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        try:
            read = repr(read_unit(unit))
        except MemoryStoreError:
            refused += 1
        else:
            assert read == before
    assert refused > len(whole) // 2


def test_what_is_no_unit_is_refused_with_a_remedy(unit):
    unit.write_bytes(unit.read_bytes()[:-1])
    with pytest.raises(MemoryStoreError, match=r"delete the folder .*units and run the build again"):
        read_unit(unit)
    with pytest.raises(MemoryStoreError, match="expected planned work"):
        read_unit(unit.with_name("absent"))
