"""Lengths, and what isn't a workload."""

import pytest

from fidkit.cost import Workload, context_vectors
from fidkit.errors import UsageError
from fidkit.preset import named


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"questions": 0}, "questions is 0; give a whole number from 1"),
        ({"passages": 0}, "passages is 0"),
        ({"passage_tokens": 0}, "passage_tokens is 0"),
        ({"passage_tokens": (1, 2, 0), "passages": 3}, "passage_tokens is 0"),
        ({"passage_tokens": (1, 2)}, "2 lengths for 40 passages"),
        ({"output_tokens": -1}, "output_tokens is -1"),
        ({"beams": 0}, "beams is 0"),
        ({"dtype": "int8"}, "dtype is 'int8'; choose one of float32, bfloat16"),
        ({"decoder_dtype": "int4"}, "decoder_dtype is 'int4'; choose one of float32, bfloat16, int8"),
        ({"encoder_dtype": "int4"}, "encoder_dtype is 'int4'; choose one of float32, bfloat16, int8"),
        ({"memory": "zip"}, "memory is 'zip'; choose one of computed, float32, bf16, int8, pq"),
    ],
)
def test_what_is_no_workload_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        Workload(**changes)


@pytest.mark.parametrize(
    ("name", "vectors"),
    [
        ("fid-base", 40 * 256),
        ("fid-light-base", 40 * 43),
        ("lumen-base", 40 * 256),
        ("memoryfid-base", 40 * 208 + 48),
    ],
)
def test_vectors_of_a_context(name: str, vectors: int) -> None:
    assert context_vectors(named(name), Workload()) == vectors


def test_vectors_of_ragged_passages() -> None:
    ragged = Workload(passages=3, passage_tokens=(10, 3, 60), question_tokens=5)
    fid = named("fid-base")
    assert context_vectors(fid, ragged) == 15 + 8 + 65
    assert context_vectors(fid, ragged.replace(padded=True)) == 3 * 65
    assert context_vectors(fid.replace(kept_vectors=12), ragged) == 12 + 8 + 12
    assert context_vectors(fid.replace(kept_vectors=12, question_in_context="none"), ragged) == 10 + 3 + 12
    assert context_vectors(fid.replace(question_in_context="once"), ragged) == 5 + 73
