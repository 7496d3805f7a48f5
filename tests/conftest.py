"""What every test gets: fixed seeds, a home of its own, and no network."""

import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

SEED = 0

# Read when huggingface_hub is imported, so it can't wait for a fixture. HF_HUB_OFFLINE=0 outside wins.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A busy machine is no failure.
settings.register_profile("fidkit", deadline=None)
settings.load_profile("fidkit")


def pytest_report_header() -> str:
    import torch

    return f"torch {torch.__version__}, {torch.get_num_threads()} threads, cuda {torch.cuda.is_available()}"


@pytest.fixture(autouse=True)
def _reproducible() -> None:
    random.seed(SEED)
    np.random.seed(SEED)  # for libraries that still draw from the global state
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(SEED)


@pytest.fixture(scope="session")
def _built_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("native")


@pytest.fixture(autouse=True)
def _isolated(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, _built_once: Path
) -> Path:
    home = tmp_path_factory.mktemp("fidkit-home")
    (home / "native").symlink_to(_built_once)  # compiling for every test would take hours
    monkeypatch.setenv("FIDKIT_HOME", str(home))
    return home
