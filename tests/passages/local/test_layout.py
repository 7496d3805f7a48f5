"""What a corpus is on disk."""

import os
from pathlib import Path

from fidkit.passages.local.layout import sizes_on_disk


def test_a_folder_that_is_swept_while_it_is_counted_is_left_out(tmp_path, monkeypatch):
    (tmp_path / "catalogue.sqlite").write_bytes(b"1234")
    for name in ("lexical-1", "lexical-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "terms").write_bytes(b"12")
    scan = os.scandir

    def swept(path):
        if Path(path).name == "lexical-1":
            (Path(path) / "terms").unlink()
            Path(path).rmdir()
        return scan(path)

    assert sizes_on_disk(tmp_path) == {"catalogue": 4, "index": 4}
    with monkeypatch.context() as patch:  # what is left is removed by the same function
        patch.setattr(os, "scandir", swept)
        assert sizes_on_disk(tmp_path) == {"catalogue": 4, "index": 2}
