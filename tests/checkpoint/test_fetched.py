"""A reader in an object store: copied once, again when it was replaced, and refused in words."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fidkit import assets
from fidkit.answerer import Answerer
from fidkit.checkpoint.files import CONFIG, FILES, locate
from fidkit.checkpoint.shared import sha256
from fidkit.errors import CheckpointError, UsageError
from fidkit.home import home
from fidkit.types import Passage

TEA = Passage("1", "Tea", "Tea is grown in Kenya. The largest garden belongs to Wanjiru Kamau.")


@pytest.fixture
def place(bucket) -> str:
    """A reader in a store, beside something else."""
    bucket.put({"readers/pocket/notes.txt": "of nobody's business", "readers/pocket-old/config.json": "{}"})
    return bucket.upload(assets.reader("pocket"), "readers/pocket")


def contents(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in folder.iterdir() if path.is_file()}


def test_it_answers_as_the_one_that_it_is_a_copy_of(place):
    with Answerer(place) as there, Answerer("pocket") as here:
        [answer], [expected] = (one.read(["where is tea grown?"], [[TEA]]) for one in (there, here))
    assert answer.guess == expected.guess == "Kenya"
    assert answer.score == expected.score


def test_its_files_are_copied_and_nothing_else(place):
    expected = contents(assets.reader("pocket"))
    assert contents(locate(place)) == {name: expected[name] for name in expected if name in FILES}
    assert contents(locate(f"{place}/")) == contents(locate(place))


def test_it_is_copied_once_and_again_when_it_was_replaced(place, bucket):
    first = locate(place)
    stamp = first.parent.stat().st_mtime_ns  # where a copy begins, also one that is thrown away
    assert locate(place) == first
    assert first.parent.stat().st_mtime_ns == stamp
    other = (first / CONFIG).read_text().rstrip() + " "  # of the same size
    bucket.put({f"readers/pocket/{CONFIG}": other})
    second = locate(place)
    assert second != first
    assert (second / CONFIG).read_text() == other


def test_many_at_once_share_a_copy(place):
    with ThreadPoolExecutor(4) as pool:
        [found] = set(pool.map(locate, [place] * 4))
    assert list(found.parent.iterdir()) == [found]


def test_what_is_no_reader(bucket, place):
    for wrong, says in (
        (bucket.url("nothing"), "no config.json there"),
        (bucket.url("readers"), "no config.json there"),
        ("s3://no-such-bucket/pocket", "no bucket 'no-such-bucket'"),
    ):
        with pytest.raises(CheckpointError, match=says):
            locate(wrong)
    with pytest.raises(UsageError, match="names no bucket"):
        locate("s3:///pocket")
    assert not (home() / "readers").exists()


def test_no_room_for_the_copy(place, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FIDKIT_HOME", str(tmp_path / "file"))
    with pytest.raises(CheckpointError, match=r"can't be copied to .*file/readers \(Not a directory\)"):
        locate(place)
