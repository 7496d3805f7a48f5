import torch
from hypothesis import given
from hypothesis import strategies as st

from fidkit.config import RerankConfig
from fidkit.fusion import lay_out
from fidkit.nn.rerank import Reranker
from fidkit.nn.rows import Rows

SCORES = torch.tensor([1.0, 3.0, 2.0, 5.0, 4.0])
QUESTIONS = torch.tensor([0, 0, 0, 1, 1])


def chosen(keep: int, scores: torch.Tensor = SCORES, questions: torch.Tensor = QUESTIONS) -> list[int]:
    found = Reranker(RerankConfig(after=1, keep=keep), 1).choose(scores, questions)
    return found.nonzero()[:, 0].tolist()


def test_the_best_of_each_question_in_their_order() -> None:
    assert chosen(1) == [1, 3]
    assert chosen(2) == [1, 2, 3, 4]
    assert chosen(9) == [0, 1, 2, 3, 4]


def test_of_equal_passages_the_first() -> None:
    assert chosen(2, torch.zeros(5)) == [0, 1, 3, 4]


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    keep=st.integers(1, 7),
    values=st.lists(st.integers(0, 3), min_size=30, max_size=30),
)
def test_choosing_is_sorting_each_question(sizes: list[int], keep: int, values: list[int]) -> None:
    questions = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    scores = torch.tensor(values[: len(questions)]).float()
    expected, first = [], 0
    for size in sizes:
        own = sorted(range(first, first + size), key=lambda n: -values[n])[:keep]
        expected += sorted(own)
        first += size
    assert chosen(keep, scores, questions) == expected


def test_scores_are_laid_out_by_question() -> None:
    none = -torch.inf
    assert lay_out(SCORES, QUESTIONS, 2).tolist() == [[1, 3, 2], [5, 4, none]]


def test_a_score_is_of_the_row_alone() -> None:
    reranker = Reranker(RerankConfig(after=1, keep=1), 4)
    with torch.no_grad():
        reranker.weight.normal_()
    states = torch.randn(9, 4)
    together = reranker(states, Rows(torch.tensor([4, 2, 3])))
    alone = [reranker(part, Rows(torch.tensor([len(part)]))) for part in states.split([4, 2, 3])]
    assert torch.equal(together, torch.cat(alone))


def test_scores_are_float32_in_a_reader_of_bfloat16() -> None:
    reranker = Reranker(RerankConfig(after=1, keep=1), 4).to(torch.bfloat16)
    assert reranker(torch.randn(3, 4).bfloat16(), Rows(torch.tensor([1, 2]))).dtype is torch.float32
