"""The table that sets LUMEN's memory beside caches of language models."""

from render import reuse


def row(subject, milliseconds, dtype="float32"):
    return {"subject": subject, "dtype": dtype, "total_ms": {"median": milliseconds}}


def test_what_is_kept_and_saved():
    times = [
        row("fid-base", 900.0), row("fid-base", 600.0), row("fid-base", 100.0, "int8"),
        row("lumen-fido-base-base", 200.0),
    ]  # fmt: skip
    cells = [[cell.strip() for cell in said.split("|")] for said in reuse.part(times).splitlines()]
    kept = {found[1]: found[2:4] for found in cells if len(found) > 5}
    assert kept["Llama-3-8B"] == ["131,072", "573"]
    assert kept["T5 XXL, LUMEN"] == ["8,192", "36"]
    [own] = [found for found in cells if len(found) > 5 and found[1].startswith("T5 base")]
    assert own[2:5] == ["1,536", "7", "a question of 40 passages 3.0 times as fast as FiD's"]
