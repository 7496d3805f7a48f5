"""Numbers in the documents come from rows, and the rows from the reader that is shipped."""

import rows
from render import documents

from fidkit import Reader


def tables() -> dict[str, str]:
    return {
        mark: make(list(rows.read(rows.RESULTS / file))) for mark, (make, file) in documents.TABLES.items()
    }


def test_documents_say_what_the_rows_say() -> None:
    for path in documents.DOCUMENTS:
        assert not documents.update(path, tables(), check=True), f"{path}: run python benchmarks/render.py"


def test_the_paper_s_tables_and_plots_say_what_the_rows_say() -> None:
    stale = documents.reproduce(rows.RESULTS, documents.DOCS, check=True)
    assert not stale, f"{stale}: run python benchmarks/render.py"


def test_plots_show_what_the_rows_say() -> None:
    stale = documents.draw(rows.RESULTS, documents.DOCS, check=True)
    assert not stale, f"{stale}: run python benchmarks/render.py"


def test_a_stale_table_is_noticed(tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a <!-- quality -->\nold\n<!-- /quality --> b", encoding="utf-8")
    assert documents.update(page, {"quality": "new"}, check=False)
    assert page.read_text(encoding="utf-8") == "a <!-- quality -->\nnew\n<!-- /quality --> b"
    assert not documents.update(page, {"quality": "new"}, check=True)


def test_the_table_is_of_the_bundled_reader() -> None:
    measured = list(rows.read(rows.RESULTS / "quality.jsonl"))[-1]["fingerprint"]
    assert Reader.from_pretrained("pocket").fingerprint().startswith(measured)
