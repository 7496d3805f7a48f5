"""The reader without PyTorch computes what the plain one does."""

import gc
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fidkit import native
from fidkit.checkpoint import WEIGHTS, rounding
from fidkit.checkpoint.files import open_directory
from fidkit.checkpoint.shapes import shapes_of
from fidkit.checkpoint.stored import stored_weights
from fidkit.config import RerankConfig
from fidkit.context import IGNORED
from fidkit.engine.cpu.decoder import NativeDecoder
from fidkit.engine.cpu.positions import bias_by_distance, bias_of_past
from fidkit.engine.cpu.reader import NativeReader, suits
from fidkit.engine.cpu.tensors import weights_of
from fidkit.engine.evidence import look_back
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.generate import generate
from fidkit.errors import CheckpointError
from fidkit.native import Kernels
from fidkit.nn.positions import RelativeBias
from fidkit.reader import Reader
from oracles import VOCABULARY, batch_of, questions, quick, random_reader, small, stack

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
DECODINGS = [
    Decoding(max_tokens=6),
    Decoding(max_tokens=5, beams=3, n_best=2),
    Decoding(max_tokens=5, temperature=0.8, top_p=0.9, n_best=2, seed=3),
    Decoding(max_tokens=5, temperature=1.1, top_k=4),
    Decoding(max_tokens=6, no_repeat_ngram=2, min_tokens=2, stop=((5,),)),
]


@pytest.fixture(autouse=True)
def small_matrices_are_rounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounding, "_FEWEST", 1)


@st.composite
def configs(draw):
    encoder = draw(st.sampled_from(["t5", "t5-v1.1", "bert"]))
    shared = draw(st.booleans())
    heads = draw(st.sampled_from([2, 4]))
    width = 24 if shared else draw(st.sampled_from([20, 24]))
    live, tied = draw(st.integers(0, 3)), draw(st.booleans())
    other = stack(2, width=20, heads=2, head_width=32).replace(family=draw(st.sampled_from(["t5", "bert"])))
    some = st.builds(RerankConfig, after=st.integers(1, max(1, live)), keep=st.integers(1, 3))
    standardised = shared and draw(st.booleans())
    decoder = stack(draw(st.integers(1, 3)), width=width, heads=heads, head_width=16)
    knobs = {
        "encoder": stack(3, width=24, heads=3, head_width=16).replace(family=encoder),
        "decoder": decoder.replace(family=draw(st.sampled_from(["t5", "t5-v1.1"]))),
        "shared_embedding": shared,
        "standardised_embedding": standardised,
        "tied_head": tied,
        "head_bias": draw(st.booleans()),
        "live_layers": live,
        "memory_encoder": draw(st.sampled_from([None, other])),
        "rerank": draw(st.none() | some) if live else None,
        "token_skip": draw(st.booleans()),
        "kept_vectors": draw(st.sampled_from([None, 3])),
        "question_in_context": draw(st.sampled_from(["each", "once"])),
        "cross_attention_every": draw(st.integers(1, decoder.layers)),
        "self_kv_heads": draw(st.sampled_from([1, heads])),
        "cross_kv_heads": draw(st.sampled_from([1, heads // 2, heads])),
    }
    return small(**knobs)


def without_torch(reader: Reader, rounding="never") -> NativeReader:
    kernels = native.kernels()
    assert kernels is not None
    weights = weights_of(reader.named_parameters(), rounding)
    return NativeReader(reader.config, weights, reader.tokenizer, reader.calibration, kernels, rounding)


def of_numpy(batch):
    arrays = {name: x if x is None else x.numpy() for name, x in vars(batch).items()}
    return type(batch)(**arrays)


@quick
@given(config=configs(), examples=questions(), seed=st.integers(0, 9))
def test_it_reads_and_writes_what_the_plain_reader_does(config, examples, seed: int) -> None:
    reader, batch = random_reader(config, seed, apart=True), batch_of(examples)
    assert suits(config)
    made = without_torch(reader)
    with torch.no_grad():
        wanted = reader.read(batch)
        found = made.read(of_numpy(batch))
        for name in ("states_BMD", "mask_BM", "passage_BM", "token_BM", "scores_BN", "ids_BM2"):
            array, tensor = getattr(found, name), getattr(wanted, name)
            assert (array is None) == (tensor is None)
            if tensor is not None:
                np.testing.assert_allclose(array, tensor.numpy(), rtol=1e-5, atol=1e-5)
        for decoding in DECODINGS:
            one, other = generate(made, found, decoding), generate(reader, wanted, decoding)
            assert one.ids_BT.tolist() == other.ids_BT.tolist()
            np.testing.assert_allclose(
                one.log_probabilities_BT, other.log_probabilities_BT.numpy(), rtol=1e-4, atol=1e-4
            )
        seen = look_back(made, found, generate(made, found), 4)
        expected = look_back(reader, wanted, generate(reader, wanted), 4)
        np.testing.assert_allclose(seen.shares, expected.shares, atol=1e-5)
        for one, other in zip(seen.signals, expected.signals, strict=True):
            np.testing.assert_allclose(list(one.values()), list(other.values()), rtol=1e-3, atol=1e-3)


@quick
@given(config=configs(), examples=questions(), seed=st.integers(0, 9))
def test_it_looks_where_the_plain_reader_looks(config, examples, seed: int) -> None:
    reader, batch = random_reader(config, seed, apart=True), batch_of(examples)
    ids_BT = batch.labels.clone()
    with torch.no_grad():
        context = reader.read(batch)
        wanted = reader.look(ids_BT, context)
    found = without_torch(reader).look(ids_BT.numpy(), context)
    real = (ids_BT != IGNORED).numpy()
    np.testing.assert_allclose(found.logits_BTV[real], wanted.logits_BTV.numpy()[real], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.mass_BM, wanted.mass_BM.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.first_BM, wanted.first_BM.numpy(), rtol=1e-4, atol=1e-5)


def test_many_heads_share_keys_of_a_long_context() -> None:
    """More heads than are scored at a time, and more keys than are summed up at a time."""
    encoder, decoder = (stack(2, width=24, heads=heads, head_width=16) for heads in (3, 8))
    reader = random_reader(small(encoder=encoder, decoder=decoder, self_kv_heads=1, cross_kv_heads=1), 1)
    passages = [[(7 * n + p) % (VOCABULARY - 2) + 1 for n in range(60)] for p in range(12)]
    batch = batch_of([([3, 4], passages, [2, 5, 3, 1])])
    made, ids_BT = without_torch(reader), batch.labels.clone()
    with torch.no_grad():
        context = reader.read(batch)
        wanted = reader.look(ids_BT, context)
    assert context.mask_BM.sum() > 600
    found = made.look(ids_BT.numpy(), made.read(of_numpy(batch)))
    np.testing.assert_allclose(found.logits_BTV, wanted.logits_BTV.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.mass_BM, wanted.mass_BM.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.first_BM, wanted.first_BM.numpy(), rtol=1e-4, atol=1e-6)


@quick
@given(config=configs(), examples=questions(), seed=st.integers(0, 9))
def test_a_stored_reader_is_read_as_it_was_rounded(tmp_path_factory, config, examples, seed: int) -> None:
    directory, batch = tmp_path_factory.mktemp("stored"), batch_of(examples)
    random_reader(config, seed, apart=True).save_pretrained(directory, dtype="int8")
    kernels = native.kernels()
    assert kernels is not None
    reader = Reader.from_pretrained(directory)
    for precision, most in (("auto", 127), ("auto", 64), ("float32", 127)):
        with pytest.MonkeyPatch.context() as patch:  # 64: CPUs where activations of 8 bits have fewer
            patch.setattr(Kernels, "most_of_8_bits", most)
            made = NativeReader.from_pretrained(open_directory(directory), kernels, precision)
        found, wanted = made.read(of_numpy(batch)), reader.read(batch)
        states = wanted.states_BMD.detach().numpy()
        if (precision, most) == ("auto", 127):
            assert np.linalg.norm(found.states_BMD - states) <= 0.05 * np.linalg.norm(states) + 1e-3
            continue
        np.testing.assert_allclose(found.states_BMD, states, rtol=1e-3, atol=1e-3)
        logits = (source.step(ids, source.start(context, 1)) for source, ids, context in (
            (made, np.zeros(len(examples), int), found),
            (reader, torch.zeros(len(examples), dtype=torch.long), wanted),
        ))  # fmt: skip
        one, other = (np.asarray(x.detach() if isinstance(x, torch.Tensor) else x) for x in logits)
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-3)


@quick
@given(config=configs())
def test_shapes_are_those_of_the_reader(config) -> None:
    reader = Reader.without_weights(config)
    assert shapes_of(config) == {name: tuple(p.shape) for name, p in reader.named_parameters()}


@pytest.mark.parametrize("most", [20, 64, 128, 1000])
@pytest.mark.parametrize("buckets", [8, 32])
def test_biases_by_distance(buckets: int, most: int) -> None:
    for both in (True, False):
        plain = RelativeBias(3, bidirectional=both, buckets=buckets, max_distance=most)
        torch.nn.init.normal_(plain.weight)
        table, reach = plain.weight.detach().numpy(), 1500
        positions = torch.arange(-reach, reach + 1) if both else -torch.arange(reach)
        wanted = plain(torch.zeros(1, dtype=torch.long), positions)[0, :, 0].detach().numpy()
        found = bias_by_distance(table, reach, most) if both else bias_of_past(table, reach, most)
        assert np.array_equal(found, wanted)


def test_keys_and_values_of_a_context_are_projected_once_while_it_is_worked_on(monkeypatch) -> None:
    config = small(encoder=stack(head_width=16), decoder=stack(2, head_width=16))
    made, batch = without_torch(random_reader(config)), of_numpy(batch_of([([1, 2], [[3, 4]], [1])]))
    context, projected = made.read(batch), []
    fill = NativeDecoder._fill
    monkeypatch.setattr(NativeDecoder, "_fill", lambda *given: (projected.append(given[1]), fill(*given)))
    with made.at_work():
        generated = generate(made, context, Decoding(max_tokens=3))
        made.look(generated.ids_BT, context)
    assert len(projected) == 1
    gc.collect()
    made.start(context, 2)  # nobody works on it any more
    assert len(projected) == 2


def test_keys_and_values_are_never_those_of_a_context_that_is_gone() -> None:
    """Another context may lie where it lay, and is not to be taken for it."""
    config = small(encoder=stack(head_width=16), decoder=stack(2, head_width=16))
    made = without_torch(random_reader(config))
    with made.at_work():
        context = made.read(of_numpy(batch_of([([1, 2], [[3, 4]], [1])])))
        cache, place = made.start(context, 2), id(context)
        assert made._decoder._made[place] is cache.crossed
        del context
        gc.collect()
        assert place not in made._decoder._made
        assert place not in made._decoder._kept


def test_a_larger_context_after_a_small_one_has_room() -> None:
    reader = random_reader(small(encoder=stack(head_width=16), decoder=stack(2, head_width=16)))
    made = without_torch(reader)
    for passages in ([[8]], [[8, 9, 10]] * 20, [[8, 9]]):
        batch = batch_of([([5, 6, 7], passages, [11])])
        found = generate(made, made.read(of_numpy(batch)), DECODINGS[0]).ids_BT
        assert found.tolist() == generate(reader, reader.read(batch), DECODINGS[0]).ids_BT.tolist()


# Bad input


def saved(directory: Path) -> None:
    config = small(encoder=stack(head_width=16), decoder=stack(2, head_width=16))
    random_reader(config).save_pretrained(directory, dtype="int8")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["decoder.norm.weight", "embedding.weight"])
def test_weights_that_are_no_numbers_are_named(tmp_path: Path, name: str, value: float) -> None:
    reader = random_reader(small(encoder=stack(head_width=16), decoder=stack(2, head_width=16)))
    reader.get_parameter(name).data.view(-1)[3] = value
    reader.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=f"not all weights are finite numbers: {name}; take an earlier"):
        stored_weights(open_directory(tmp_path))


@pytest.mark.parametrize("value", [np.inf, np.nan, 3e36, -3e36, 1e300])
def test_scales_that_overflow_are_named(tmp_path: Path, value: float) -> None:
    """3e36 is a number of float32, but 127 times it is none."""
    from safetensors.numpy import load_file, save_file

    saved(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    name = next(name for name in tensors if name.endswith(".scale"))
    tensors[name] = tensors[name].astype(np.float64)
    tensors[name][0] = value
    save_file(tensors, tmp_path / WEIGHTS)
    (tmp_path / "tokenizer.json").unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match=f"not all weights are finite.*{name.removesuffix('.scale')}"):
        stored_weights(open_directory(tmp_path))


@pytest.mark.parametrize("decoding", DECODINGS[:3])
@pytest.mark.parametrize("native", [True, False])
def test_numbers_that_overflow_on_the_way_are_no_answer(native: bool, decoding: Decoding) -> None:
    """Weights may be finite, and what they make of a passage not."""
    reader = random_reader(small(encoder=stack(head_width=16), decoder=stack(2, head_width=16)))
    reader.live_encoder.norm.weight.data.fill_(3e38)
    batch = batch_of([([5, 6, 7], [[8, 9], [10]], [11])])
    made, batch = (without_torch(reader), of_numpy(batch)) if native else (reader, batch)
    with np.errstate(all="ignore"), torch.no_grad():
        context = made.read(batch)
        with pytest.raises(CheckpointError, match="too large to be a number; take an earlier checkpoint"):
            generate(made, context, decoding)


@pytest.mark.parametrize("damage", ["cut", "empty", "folder", "gone", "shape", "missing", "more", "type"])
def test_damaged_weights_are_refused(tmp_path: Path, damage: str) -> None:
    from safetensors.numpy import load_file, save_file

    saved(tmp_path)
    path = tmp_path / WEIGHTS
    tensors = load_file(path)
    said = {
        "shape": "decoder.norm.weight is",
        "missing": "missing decoder.norm.weight",
        "more": "unexpected x",
    }
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage in ("folder", "gone"):
        path.unlink()
        if damage == "folder":
            path.mkdir()
    else:
        if damage == "shape":
            tensors["decoder.norm.weight"] = np.ones(3, np.float32)
        elif damage == "missing":
            del tensors["decoder.norm.weight"]
        elif damage == "more":
            tensors["x"] = np.ones(3, np.float32)
        else:
            tensors["decoder.norm.weight"] = tensors["decoder.norm.weight"].astype(np.int32)
        save_file(tensors, path)
    with pytest.raises(CheckpointError, match=said.get(damage, str(path))):
        stored_weights(open_directory(tmp_path))


# Without PyTorch

BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "faiss"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
from fidkit.cli import main
main(sys.argv[1:])
"""


def run_blocked(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCKED, *arguments], capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "club.md").write_text("# The rowing club\n\nThe boathouse opens at seven in the morning.\n")
    return folder


@pytest.mark.parametrize("reader", ["pocket", "pocket-fido", "pocket-lumen"])
def test_questions_are_answered_without_it(documents: Path, reader: str) -> None:
    done = run_blocked(
        "ask", "When does the boathouse open?", "--in", str(documents), "--reader", reader, "--json"
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert "seven" in answer["guess"]
    assert answer["evidence"][0]["score"] > 0


def test_beams_samples_and_tested_evidence_need_none_either(documents: Path) -> None:
    (documents / "other.md").write_text("# The sailing club\n\nThe harbour closes at nine in the evening.\n")
    asked = ("ask", "When does the boathouse open?", "--in", str(documents), "--json")
    for more in (("--beams", "3", "--n-best", "2"), ("--temperature", "0.7"), ("--test-evidence",)):
        done = run_blocked(*asked, *more)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["guess"]


@pytest.mark.parametrize("more", [("--precision", "bfloat16"), ("--device", "cuda")])
def test_what_needs_it_says_how_to_get_it(documents: Path, more: tuple[str, str]) -> None:
    done = run_blocked("ask", "When does it open?", "--in", str(documents), *more)
    assert done.returncode == 1
    assert "this needs PyTorch, which is not installed" in done.stderr
    assert "pip install 'fidkit[torch]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_compiler_either_it_says_what_there_is_to_do(documents: Path, monkeypatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    done = run_blocked("ask", "When does it open?", "--in", str(documents))
    assert done.returncode == 1
    assert "no C++ compiler (no-such-compiler)" in done.stderr
    assert "no native kernels here (`fidkit doctor` says why), and this needs PyTorch" in done.stderr


def test_names_that_need_it_say_so_too() -> None:
    script = BLOCKED.partition("from fidkit.cli")[0] + "import fidkit; fidkit.Reader"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    said = "fidkit.Reader needs PyTorch, which is not installed; get it with: pip install 'fidkit[torch]'"
    assert done.stderr.splitlines()[-1] == f"ModuleNotFoundError: {said}"
