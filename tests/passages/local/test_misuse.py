"""What Python callers get wrong: it is said, in terms of what they did."""

import datetime

import pytest

from fidkit.errors import UsageError
from fidkit.passages import Corpus, Filter


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "tea.md").write_text("Tea is grown in Kenya.")
    with Corpus.build(tmp_path / "tea.md", tmp_path / "c") as made:
        yield made


def test_a_closed_corpus_says_so(corpus):
    corpus.close()
    corpus.close()
    for use in (
        lambda: corpus.search("tea"), lambda: corpus.get(["tea.md#1"]), corpus.info,
        lambda: corpus.fingerprint, lambda: list(corpus), lambda: len(corpus),
        lambda: corpus.document("tea.md"), corpus.refresh,
    ):  # fmt: skip
        with pytest.raises(UsageError, match="this corpus is closed; open it again"):
            use()


@pytest.mark.parametrize("question", [None, 5, b"tea"])
def test_a_question_that_is_no_text(corpus, question):
    with pytest.raises(UsageError, match=r"the question is .*; expected a text"):
        corpus.search(question)


@pytest.mark.parametrize("where", ["kind=pdf", {"kind": "pdf"}, ["kind=pdf"]])
def test_a_filter_that_is_none(corpus, where):
    with pytest.raises(UsageError, match=r"where is .*; expected Filter\("):
        corpus.search("tea", where=where)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"kind": 5}, "a filter has 5; expected a text"),
        ({"source": ["a", None]}, r"a filter has \['a', None\]"),
        ({"after": datetime.date(2024, 1, 31)}, "after is .*; expected a day as text"),
        ({"before": 2024}, "before is 2024; expected a day as text"),
    ],
)
def test_values_that_are_no_text(values, says):
    with pytest.raises(UsageError, match=says):
        Filter(**values)
