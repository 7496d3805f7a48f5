import json

import pytest

from documents import blocks, one, pandoc, place
from fidkit.passages.load.record import UnreadableFile


def notebook(*cells: dict) -> bytes:
    return json.dumps({"nbformat": 4, "metadata": {}, "cells": cells}).encode()


def test_cells_are_places():
    text = {
        "cell_type": "markdown",
        "source": ["# Ships\n", "\n", "They sail\n", "far.\n", "- one\n", "- two\n"],
    }
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["3\n"]},
        {"output_type": "execute_result", "data": {"text/plain": "4", "text/html": "<b>4</b>"}},
        {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": ["\x1b[31mx"]},
    ]
    code = {"cell_type": "code", "source": "x = 3\n  # no heading", "outputs": outputs}
    document = one(notebook(text, code, {"cell_type": "markdown", "source": "```\n# c\n```\nd"}), "a.ipynb")
    assert blocks(document) == [
        ("heading", "Ships"),
        ("paragraph", "They sail\nfar."),
        ("item", "- one"),
        ("item", "- two"),
        ("code", "x = 3\n  # no heading"),
        ("code", "3\n4\nValueError: no"),
        ("code", "# c"),
        ("paragraph", "d"),
    ]
    assert document.title == "Ships"
    assert place(document, "cell", "2") == "x = 3\n  # no heading\n\n3\n4\nValueError: no"
    assert place(document, "heading", "Ships") == "Ships\n\nThey sail\nfar.\n\n- one\n- two"


def test_long_outputs_are_cut_and_said():
    outputs = [{"output_type": "stream", "text": "a" * 12_000}]
    document = one(notebook({"cell_type": "code", "source": "x", "outputs": outputs}), "a.ipynb")
    assert document.notes == ("cell 1 printed 12000 characters; the first 10000 are read",)
    assert len(document.text) == 10_005


def test_as_pandoc_writes_it():
    assert ("heading", "Masts") in blocks(one(pandoc("ipynb"), "a.ipynb"))


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[1]", b"{}", b'{"cells": 3}', b'{"worksheets": [1]}', b"[" * 100_000, b"\xff\xfe"]
)
def test_what_is_no_notebook(data):
    with pytest.raises(UnreadableFile, match="expected a notebook of Jupyter, but"):
        one(data, "a.ipynb")


def test_odd_cells_and_half_characters():
    cell = {"cell_type": "code", "source": "\ud800\0", "outputs": [None, {"data": 1}, {"text": None}]}
    assert blocks(one(notebook(cell, {}), "a.ipynb")) == [("code", "\ufffd")]
