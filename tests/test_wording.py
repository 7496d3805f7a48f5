"""Numbers in sentences."""

import pytest

from fidkit.wording import counted


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 files are"), (1, "1 file is"), (2, "2 files are"), (1234567, "1,234,567 files are")],
)
def test_a_single_one_is_said_otherwise(number: int, said: str) -> None:
    assert counted(number, "file is", "files are") == said
    assert counted(number, "file") == said.rsplit(" ", 1)[0]
