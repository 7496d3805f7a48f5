import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fidkit.context import IGNORED
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.rules import Rules
from fidkit.errors import UsageError
from fidkit.reader import Reader
from oracles import quick

V = 6
written = st.integers(0, 8).flatmap(
    lambda t: st.lists(st.lists(st.integers(0, V - 1), min_size=t, max_size=t), min_size=1, max_size=4)
)


def rules(tokenizer=None, **values) -> Rules:
    return Rules(Decoding(**values), 1, torch.device("cpu"), tokenizer)


def tensor(rows: list[list[int]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.long).view(len(rows), -1)


def withheld(rows: list[list[int]], **values) -> list[list[int]]:
    given = torch.zeros(len(rows), V)
    allowed = rules(**values).withhold(given, tensor(rows))
    assert not given.any()  # what the reader said is left as it is
    return [[v for v in range(V) if row[v] == float("-inf")] for row in allowed]


@quick
@given(rows=written, ngram=st.integers(0, 4))
def test_no_ngram_is_completed_twice(rows: list[list[int]], ngram: int) -> None:
    def completes_one(row: list[int], token: int) -> bool:
        new = [*row, token][-ngram:]
        return any(row[i : i + ngram] == new for i in range(len(row) - ngram + 1))

    expected = [[v for v in range(V) if ngram and completes_one(row, v)] for row in rows]
    assert withheld(rows, no_repeat_ngram=ngram) == expected


def test_rows_that_have_ended_are_no_trouble() -> None:
    assert withheld([[4, 4], [IGNORED, IGNORED]], no_repeat_ngram=1)[0] == [4]


@pytest.mark.parametrize(("tokens", "held"), [(0, [1]), (1, [1]), (2, []), (3, [])])
def test_the_end_is_withheld_from_the_first_tokens(tokens: int, held: list[int]) -> None:
    assert withheld([[3] * tokens, [4] * tokens], min_tokens=2) == [held, held]


@quick
@given(
    rows=written.filter(lambda rows: bool(rows[0])), stops=st.lists(st.lists(st.integers(2, 3), min_size=1))
)
def test_an_answer_ends_with_the_end_or_with_the_tokens_of_a_stop(
    rows: list[list[int]], stops: list[list[int]]
) -> None:
    expected = [row[-1] == 1 or any(row[-len(stop) :] == stop for stop in stops) for row in rows]
    ended = rules(stop=tuple(map(tuple, stops))).ended(tensor(rows))
    assert ended.tolist() == expected


def test_a_stop_text_is_found_whatever_the_tokens() -> None:
    """In the middle of a token, across tokens, and where the vocabulary joins punctuation to a word."""
    tokenizer = Reader.from_preset("tiny-fid").tokenizer
    ids = tokenizer.target("The harbour, he said, is old.")[:-1]

    def first_end(*stop: str) -> str:
        found = rules(tokenizer, stop=stop)
        ends = [bool(found.ended(torch.tensor([ids[:n]]))) for n in range(1, len(ids) + 1)]
        return tokenizer.decode(ids[: ends.index(True) + 1]) if True in ends else ""

    assert first_end("arbou") == "The harbour"
    assert first_end("r, he s") == "The harbour, he said"
    assert first_end(",", ".") == "The harbour,"
    assert first_end(".") == "The harbour, he said, is old."
    assert first_end("river") == ""


def test_a_stop_text_without_a_tokenizer_is_refused() -> None:
    with pytest.raises(UsageError, match=r"stop has the text '\.', but there is no tokenizer"):
        rules(stop=((3,), "."))
