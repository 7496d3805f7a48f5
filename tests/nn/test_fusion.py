import torch
from torch import Tensor

from fidkit.fusion import fuse, join, length_mask
from fidkit.nn.rows import Rows

# Question vectors are 100 question + position, passage vectors 10 row + position; 1 and 2 questions.
QUESTIONS = torch.tensor([101.0, 102, 201, 202, 203])[:, None]
OF_QUESTIONS = Rows(torch.tensor([2, 3]))
PASSAGES = torch.tensor([11.0, 12, 13, 21, 31, 32])[:, None]
OF_PASSAGES = Rows(torch.tensor([3, 1, 2]))
QUESTION_OF_PASSAGE = torch.tensor([0, 0, 1])


def joined():
    return join(QUESTIONS, OF_QUESTIONS, PASSAGES, OF_PASSAGES, QUESTION_OF_PASSAGE)


def fused(**knobs):
    settings = {"keep": None, "question_in_context": "each"} | knobs
    return fuse(
        joined(),
        question_states_XD=QUESTIONS,
        questions=OF_QUESTIONS,
        **settings,
    )


def kept(context) -> list[list[int]]:
    rows = zip(context.states_BMD, context.mask_BM, strict=True)
    return [row[mask].flatten().int().tolist() for row, mask in rows]


def shown(values: Tensor) -> list:
    return values.int().tolist()


def test_length_mask() -> None:
    assert length_mask(torch.tensor([2, 0]), 3).tolist() == [[True, True, False], [False, False, False]]


def test_join_leaves_no_gap() -> None:
    rows = joined()
    assert rows.rows.lengths.tolist() == [5, 3, 5]
    assert shown(rows.states_XD[:, 0]) == [101, 102, 11, 12, 13, 101, 102, 21, 201, 202, 203, 31, 32]
    assert shown(rows.token_X) == [-1, -1, 0, 1, 2, -1, -1, 0, -1, -1, -1, 0, 1]


def test_question_with_each_passage() -> None:
    context = fused()
    assert kept(context) == [[101, 102, 11, 12, 13, 101, 102, 21], [201, 202, 203, 31, 32]]
    assert shown(context.passage_BM) == [[0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, -1, -1, -1]]
    assert shown(context.token_BM) == [[-1, -1, 0, 1, 2, -1, -1, 0], [-1, -1, -1, 0, 1, -1, -1, -1]]


def test_question_once() -> None:
    context = fused(question_in_context="once")
    assert kept(context) == [[101, 102, 11, 12, 13, 21], [201, 202, 203, 31, 32]]
    assert shown(context.passage_BM) == [[-1, -1, 0, 0, 0, 1], [-1, -1, -1, 0, 0, -1]]
    assert shown(context.token_BM) == [[-1, -1, 0, 1, 2, 0], [-1, -1, -1, 0, 1, -1]]


def test_no_question() -> None:
    context = fused(question_in_context="none")
    assert kept(context) == [[11, 12, 13, 21], [31, 32]]
    assert shown(context.passage_BM) == [[0, 0, 0, 1], [0, 0, -1, -1]]


def test_the_first_vectors_of_each_passage_are_kept() -> None:
    assert kept(fused(keep=3)) == [[101, 102, 11, 101, 102, 21], [201, 202, 203]]
    assert kept(fused(keep=1, question_in_context="none")) == [[11, 21], [31]]
    assert kept(fused(keep=1, question_in_context="once")) == [[101, 102, 11, 21], [201, 202, 203, 31]]


def test_padding_of_the_context_is_zero() -> None:
    context = fused()
    assert context.states_BMD[~context.mask_BM].abs().sum() == 0
