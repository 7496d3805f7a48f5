"""One pass for vectors and memory gives what two give, of what is new, and refuses readers it isn't for."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from disks import fill, mounted
from fidkit import Reader, assets, convert, native, precompute
from fidkit.checkpoint.files import open_directory
from fidkit.cli.app import run
from fidkit.engine.cpu.embedder import NativeEmbedder
from fidkit.engine.cpu.reader import NativeReader
from fidkit.engine.embedder import Embedder
from fidkit.engine.meaning import minilm, minilm_apart
from fidkit.errors import FidkitError, MemoryStoreError, UsageError
from fidkit.memory import MemoryStore, MemoryWriter
from fidkit.memory.manifest import MemoryMeta
from fidkit.passages import Corpus
from fidkit.passages.search.vectors import Vectors
from fidkit.passages.token_cache import passage_key
from fidkit.precompute import Options
from fidkit.precompute.onepass import OnePass, one_pass
from fidkit.precompute.opened import Opened
from fidkit.precompute.shared_encoder import require_shared
from fidkit.rows import Layout
from fidkit.types import Passage
from precompute.conftest import reader_directory, texts
from precompute.test_build import rows

__all__ = ["reader_directory"]  # a fixture

pytestmark = pytest.mark.skipif(native.kernels() is None, reason="there are no native kernels here")


@pytest.fixture(scope="module")
def lumen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM as a reader: three layers of memory, three live ones, a decoder that was drawn."""
    directory = tmp_path_factory.mktemp("readers") / "minilm-lumen"
    reader, _ = convert.load("minilm", live_layers="1/2")
    reader.save_pretrained(directory, dtype="int8")
    return directory


def source(folder: Path, some: Sequence[str], title: str = "A lamp") -> Path:
    """A folder with a file for every ten passages."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for at in range(0, len(some), 10):
        lines = [
            json.dumps({"id": f"{at}-{n}", "title": title, "text": text})
            for n, text in enumerate(some[at : at + 10])
        ]
        (folder / f"{at:03}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def once(folder: Path, to: Path, reader: Path) -> tuple[OnePass, precompute.MemoryReport]:
    with (
        one_pass(to, str(reader)) as made,
        Corpus.build(folder, to, encoder=made.source, vectors=True) as corpus,
    ):
        return made, made.finish(corpus)


def vectors(corpus: Path) -> dict[bytes, np.ndarray]:
    """The vector of every passage, float32, by the key of its content."""
    [directory] = corpus.glob("vectors-*")
    found = {}
    for shard in Vectors(directory).shards:
        some = shard.entries.take(shard.live_places())
        floats = some.vectors * some.scales[:, None]
        found |= dict(zip(map(bytes, some.keys), floats, strict=True))
    return found


def test_one_pass_gives_what_two_give(tmp_path: Path, lumen: Path) -> None:
    folder = source(tmp_path / "docs", [*texts(38), "long " * 400])
    made, report = once(folder, tmp_path / "one", lumen)
    Corpus.build(folder, tmp_path / "two", encoder=minilm_apart, vectors=True).close()
    with Corpus.open(tmp_path / "two") as corpus:
        apart = precompute.build(corpus, lumen, Options(device="cpu"))
    assert apart is not None
    assert (made.kept, report.encoded, report.removed) == (apart.encoded, 0, 0)
    assert report.identity == apart.identity
    assert rows(tmp_path / "one") == rows(tmp_path / "two")
    first, second = vectors(tmp_path / "one"), vectors(tmp_path / "two")
    assert first.keys() == second.keys()
    for key, vector in first.items():
        cosine = vector @ second[key] / np.linalg.norm(vector) / np.linalg.norm(second[key])
        assert cosine >= 0.995


def test_only_what_is_new_is_encoded(tmp_path: Path, lumen: Path) -> None:
    folder = source(tmp_path / "docs", texts(30))
    once(folder, tmp_path / "c", lumen)
    before = vectors(tmp_path / "c")
    made, report = once(folder, tmp_path / "c", lumen)
    assert (made.kept, report.encoded, report.removed) == (0, 0, 0)
    (folder / "010.jsonl").write_text('{"id": "new", "title": "Tea", "text": "Tea comes from China."}\n')
    made, report = once(folder, tmp_path / "c", lumen)
    assert (made.kept, report.encoded, report.removed) == (1, 0, 9)
    after = vectors(tmp_path / "c")
    assert all(np.array_equal(after[key], before[key]) for key in after.keys() & before.keys())
    assert len(after) == 19


def test_what_has_a_vector_is_encoded_for_memory_alone(tmp_path: Path, lumen: Path, monkeypatch) -> None:
    folder = source(tmp_path / "docs", texts(20))
    Corpus.build(folder, tmp_path / "c", encoder=minilm_apart, vectors=True).close()
    (folder / "new.jsonl").write_text('{"id": "new", "title": "Tea", "text": "Tea comes from China."}\n')
    made, report = once(folder, tmp_path / "c", lumen)
    assert (made.kept, report.encoded) == (1, 18)
    # What has its memory already, but no vector, isn't stored a second time, whatever is beside it.
    Corpus.build(folder, tmp_path / "c", vectors=False, encoder=minilm).close()
    new = [
        json.dumps({"id": f"new {n}", "title": "Cocoa", "text": text}) for n, text in enumerate(texts(10, 1))
    ]
    (folder / "new.jsonl").write_text("\n".join(new))
    monkeypatch.setattr(Opened, "batch_tokens", 100)  # several batches, of passages of both kinds
    made, report = once(folder, tmp_path / "c", lumen)
    assert (made.kept, report.encoded, report.removed) == (9, 0, 1)
    once(folder, tmp_path / "fresh", lumen)
    assert rows(tmp_path / "c") == rows(tmp_path / "fresh")
    found, expected = vectors(tmp_path / "c"), vectors(tmp_path / "fresh")
    assert all(np.array_equal(found[key], expected[key]) for key in found | expected)


def test_such_a_corpus_is_searched_and_carried_on_without_the_reader(tmp_path: Path, lumen: Path) -> None:
    folder = source(tmp_path / "docs", texts(10))
    once(folder, tmp_path / "c", lumen)
    (folder / "new.jsonl").write_text('{"id": "new", "title": "Pets", "text": "A doctor owns a kitten."}\n')
    with Corpus.build(folder, tmp_path / "c", encoder=minilm) as corpus:
        assert corpus.info().vectors == {"encoder": "minilm-apart", "dimension": 384, "passages": 11}
        assert corpus.search("physician with a cat", 1, "meaning")[0].passage.id == "new"
    before = vectors(tmp_path / "c")
    new = Passage("", "Pets", "A doctor owns a kitten.")
    with one_pass(tmp_path / "c", str(lumen)) as made:
        [vector] = made.encoder.of_passages([new])
        assert made.kept == 1
    assert vector @ before[passage_key(new)] >= 0.995


def test_layers_above_go_on_where_memory_ends(lumen: Path) -> None:
    """With the reader's own kernels, which compute as those that search do, to the last bit."""
    kernels = native.kernels()
    assert kernels is not None
    reader = NativeReader.from_pretrained(open_directory(lumen), kernels)
    searching = NativeEmbedder.open(assets.reader("minilm"), kernels)
    assert reader.tokenizer is not None
    for passage in (Passage("", "Tea", "Tea comes from China."), Passage("", "", "w " * 300)):
        [ids] = reader.tokenizer.passages([passage])
        lengths = np.array([len(ids)])
        memory_XD = reader.encode_passages(np.array([ids]), lengths)
        found = searching.above(3)(memory_XD, Layout(lengths))
        assert np.array_equal(found, searching.embed_apart([passage]))


def test_passages_are_embedded_apart_with_pytorch_as_without() -> None:
    kernels = native.kernels()
    assert kernels is not None
    some = [Passage("", "Tea", "Tea comes from China."), Passage("", "A lamp", "of glass " * 150)]
    embedder = NativeEmbedder.open(assets.reader("minilm"), kernels)
    found, expected = embedder.embed_apart(some), Embedder.open("minilm").embed_apart(some)
    assert (found * expected).sum(1).min() > 0.998
    as_text = embedder.embed([f"{p.title}\n{p.text}" for p in some])
    assert (found * as_text).sum(1).max() < 0.998


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_however_a_reader_is_stored_it_is_known(lumen: Path, tmp_path: Path, dtype: str) -> None:
    Reader.from_pretrained(lumen).save_pretrained(tmp_path / dtype, dtype=dtype)
    assert require_shared(str(tmp_path / dtype)) == 3


def trained(lumen: Path, to: Path, part: str) -> str:
    """A copy that was trained on in one tensor of its memory encoder: in a row of a matrix, or a little."""
    reader = Reader.from_pretrained(lumen)
    with torch.no_grad():
        weight = reader.get_parameter(f"memory_encoder.{part}")
        if weight.ndim > 1:
            weight[1] += 0.05 * weight.abs().max()
        else:  # not rounded to 8 bits
            weight *= 1.02
    reader.save_pretrained(to, dtype="int8")
    return str(to)


def configured(lumen: Path, to: Path, **fields: int) -> str:
    """A copy with other fields of its configuration."""
    shutil.copytree(lumen, to)
    config = json.loads((to / "config.json").read_text()) | fields
    (to / "config.json").write_text(json.dumps(config))
    return str(to)


def test_readers_that_it_is_not_for(lumen: Path, tmp_path: Path, reader_directory: Path) -> None:
    inner = "encoder.layers.2.feed_forward.inner"
    for name, said in {
        "pocket-lumen": r"pocket-lumen: its memory encoder was trained on .*memory build` after it",
        "pocket": "all 6 encoder layers of this reader are live",
        str(reader_directory): "memory encoder is of another kind or size than minilm",
        trained(lumen, tmp_path / "a", f"{inner}.weight"): rf"trained on .* {inner}\.weight",
        trained(lumen, tmp_path / "b", f"{inner}.bias"): rf"trained on .* {inner}\.bias",
        configured(lumen, tmp_path / "c", passage_tokens=100): "other tokens",
        configured(
            lumen, tmp_path / "d", passage_position=48
        ): r"begin at position 48 \(`passage_position`\), and at 0",
    }.items():
        with pytest.raises(UsageError, match=said):
            require_shared(name)


def test_a_memory_of_another_reader_is_refused_before_anything_is_read(
    tmp_path: Path, lumen: Path, reader_directory: Path
) -> None:
    folder = source(tmp_path / "docs", texts(10))
    with Corpus.build(folder, tmp_path / "c") as corpus:
        precompute.build(corpus, reader_directory)
    with pytest.raises(MemoryStoreError, match="--replace"), one_pass(tmp_path / "c", str(lumen)):
        raise AssertionError


def test_where_there_are_no_kernels_it_is_said(tmp_path: Path, lumen: Path, monkeypatch) -> None:
    monkeypatch.setattr(native, "kernels", lambda: None)
    with pytest.raises(UsageError, match="needs native kernels, and there are none here"):
        one_pass(tmp_path / "c", str(lumen)).__enter__()


def test_a_memory_without_rows_is_begun_anew_and_needs_codebooks_first(tmp_path: Path, lumen: Path) -> None:
    folder, to = source(tmp_path / "docs", texts(10)), tmp_path / "c"
    Corpus.build(folder, to).close()
    for codec in ("pq", "bf16"):  # of another reader that nothing was encoded with
        with MemoryWriter.opened(to, MemoryMeta("f" * 64, "x", codec, "", "float32", 384, 3), replace=True):
            pass
        if codec == "pq":
            with pytest.raises(UsageError, match="no codebooks yet"):
                one_pass(to, str(lumen)).__enter__()
    with one_pass(to, str(lumen)) as once, Corpus.build(folder, to, encoder=once.source) as corpus:
        report = once.finish(corpus)
        assert (len(corpus), report.together, report.encoded) == (10, 9, 0)  # one says what another does
        once.encoder.of_passages([Passage("", "Tea", "What comes after that is stored too.")])
        assert once.kept == 10
    with one_pass(to, str(lumen)) as another:  # it keeps nobody out, though it be there
        another.encoder.of_passages([Passage("", "Tea", "And what another one encodes.")])
    with MemoryStore.open(to) as store:
        assert store.fingerprint != "f" * 64


def test_the_command_line(tmp_path: Path, lumen: Path, capsys) -> None:
    folder = source(tmp_path / "docs", texts(20))
    command = ["corpus", "build", str(folder), "--to", str(tmp_path / "c"), "--memory", str(lumen)]
    assert run([*command, "--no-vectors"]) == 2
    assert "leave --no-vectors out" in capsys.readouterr().err
    assert run([*command, "--watch"]) == 2
    assert "--watch brings no memory up to date" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
    assert run(command) == 0
    out, err = capsys.readouterr()
    assert "memory of 20 passages, 18 encoded together with their vectors, 0 apart, 0 removed" in out
    ask = f'fidkit ask "YOUR QUESTION" --in {tmp_path / "c"} --reader {lumen}'
    assert f"next: train {lumen} unless that was done, " in err  # its decoder was drawn
    assert err.endswith(f"; then {ask}\n")
    assert run([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["memory"]["together"], said["memory"]["encoded"], said["vectors"]["passages"]) == (0, 0, 20)
    with Corpus.open(tmp_path / "c") as corpus, MemoryStore.open(tmp_path / "c") as store:
        assert not store.find(list(map(passage_key, corpus))).missing
    assert run([*command[:-1], "pocket-lumen"]) != 0
    assert "trained on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("leaves", "needed"), [(0, ""), (500_000, "about . MB are needed|MB are needed for the next shard")]
)
def test_a_full_disk_costs_nothing_and_the_next_pass_goes_on(
    tmp_path: Path, lumen: Path, leaves: int, needed: str
) -> None:
    with mounted(tmp_path / "disk", "tmpfs", "size=9m") as disk:
        folder, to = source(tmp_path / "docs", texts(10)), disk / "c"
        once(folder, to, lumen)
        with MemoryStore.open(to) as memory:
            before = memory.info.rows
        source(folder, texts(300))
        filler = fill(disk, leaves)
        with pytest.raises(FidkitError, match=rf"disk/c.*: the disk is full .*({needed})"):
            once(folder, to, lumen)
        with Corpus.open(to, minilm) as corpus, MemoryStore.open(to) as memory:
            assert len(corpus) == corpus.info().vectors["passages"] == 10
            assert memory.info.rows >= before
            assert memory.check() == []
        filler.unlink()
        _, report = once(folder, to, lumen)
        assert report.passages == 300
        with Corpus.open(to, minilm) as corpus, MemoryStore.open(to) as memory:
            assert len(corpus) == corpus.info().vectors["passages"] == 300
            assert memory.info.rows == len(set(texts(300)))
            assert memory.check() == []


def test_a_passage_that_is_cut_is_named_by_how_it_begins(caplog: pytest.LogCaptureFixture) -> None:
    long = Passage("", "Harbour\nrules", "Whoever comes in by night shows a lamp. " * 60)
    minilm_apart().of_passages([Passage("", "", "Short."), long])
    assert re.search(
        'of 2 passages take all .*; it begins with "Harbour rules Whoever comes in by night shows a lamp. …"',
        caplog.text,
    )
