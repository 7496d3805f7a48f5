"""What every test gets: fixed seeds, a home of its own, and no network."""

import contextlib
import functools
import gc
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings

SEED = 0

# Read when huggingface_hub is imported, so it can't wait for a fixture. HF_HUB_OFFLINE=0 outside wins.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Readers here are too small for threads to pay, and there is a process a core. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What a script starts in the background ignores Ctrl-C, and so would the commands that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no failure.
settings.register_profile("fidkit", deadline=None)
settings.load_profile("fidkit")


# Importing all tests makes much and leaves no garbage.
gc.disable()


def pytest_collection_finish() -> None:
    """What is there for good is not looked through at each collection of garbage."""
    gc.enable()
    gc.collect()
    gc.freeze()


def _has_torch() -> bool:
    """Whether PyTorch is there; where the adapters are tried, it isn't."""
    return find_spec("torch") is not None


def pytest_report_header() -> str:
    if not _has_torch():
        return "without torch"
    import torch

    return f"torch {torch.__version__}, {torch.get_num_threads()} threads, cuda {torch.cuda.is_available()}"


@pytest.fixture(autouse=True)
def _reproducible() -> None:
    random.seed(SEED)
    np.random.seed(SEED)  # for libraries that still draw from the global state
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(SEED)


@pytest.fixture(scope="session", autouse=True)
def _vocabularies_read_once() -> Iterator[None]:
    """A vocabulary takes longer to read than most tests to run, and nothing writes to one that was read."""
    import tokenizers

    from fidkit import tokens

    original = tokens.read_backend
    unchanged = functools.lru_cache(maxsize=8)(lambda path, *_state: original(path))

    def read(path: Path):
        if not path.is_file():
            return original(path)
        found = path.stat()
        return unchanged(path, found.st_ino, found.st_mtime_ns, found.st_size)

    anew = tokens._renamed
    renamed_once = functools.lru_cache(maxsize=8)(
        lambda content, controls: anew(tokenizers.Tokenizer.from_str(content), dict(controls))
    )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "read_backend", read)
        patch.setattr(tokens, "_renamed", lambda b, controls: renamed_once(b.to_str(), (*controls.items(),)))
        yield


@pytest.fixture(scope="session")
def _built_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where compiled kernels are kept: for all processes of a run and, by pytest's cache, for the next."""
    cache = getattr(request.config, "cache", None)
    folder = Path(cache.mkdir("native")) if cache else tmp_path_factory.mktemp("native")
    folder.chmod(0o700)
    # Else at first use, which says so on stderr, and that would be in the first test that looks there.
    if "PYTEST_XDIST_WORKER" in os.environ or not any(folder.glob("*.so")):
        _build_kernels(folder)
    return folder


def _build_kernels(folder: Path) -> None:
    """All that the tests use: each by one process, while the others build others."""
    from fidkit.native import build

    kinds = [""]
    if _has_torch():  # kernels for other kinds of CPU are compared with it
        from vectors import builds

        kinds = builds()
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    with pytest.MonkeyPatch.context() as patch:
        home = folder.parent / "native-home"
        with FileLock(folder.parent / "native.lock"):
            home.mkdir(exist_ok=True, mode=0o700)
            if not (home / "native").is_symlink():
                (home / "native").symlink_to(folder)
        patch.setenv("FIDKIT_HOME", str(home))
        for number in range(len(kinds)):
            kind = (worker + number) % len(kinds)
            patch.setenv("CXXFLAGS", kinds[kind])
            # A test that needs them says why there are none.
            with FileLock(folder.parent / f"native-{kind}.lock"), contextlib.suppress(build.BuildError):
                build.library()


def _home(factory: pytest.TempPathFactory, kernels: Path) -> Path:
    """A new home, with kernels: compiling for every test would take hours."""
    home = factory.mktemp("fidkit-home")
    (home / "native").symlink_to(kernels)
    return home


@pytest.fixture(scope="session", autouse=True)
def _in_no_ones_home(tmp_path_factory: pytest.TempPathFactory, _built_once: Path) -> Iterator[None]:
    """Fixtures of more than one test don't find what a person keeps, such as a measured machine."""
    home = _home(tmp_path_factory, _built_once)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIDKIT_HOME", str(home))
        yield


@pytest.fixture(autouse=True)
def _isolated(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, _built_once: Path
) -> Path:
    home = _home(tmp_path_factory, _built_once)
    monkeypatch.setenv("FIDKIT_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory):
    """A checkpoint of BERT's layout, as transformers writes it: where it is, and the model."""
    from berts import bert

    directory = tmp_path_factory.mktemp("bert")
    return directory, bert(directory)


@pytest.fixture
def source(made, tmp_path: Path) -> Path:
    """A copy of it to change."""
    return Path(shutil.copytree(made[0], tmp_path / "source"))


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """Of an object store."""
    import s3_server

    with s3_server.started() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch):
    """A new bucket in it, which the environment leads to."""
    import s3_server

    for name, value in s3_server.environment(endpoint).items():
        monkeypatch.setenv(name, value)
    return s3_server.Bucket()
