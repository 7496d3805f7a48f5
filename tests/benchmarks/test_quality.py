"""The table of a reader's quality: what is asked for in each of its settings."""

import subprocess
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest
import quality


@pytest.mark.parametrize(
    ("own", "wanted", "asked"),
    [(100, None, "100"), (100, 200, "200"), (None, 200, "200"), (None, None, None)],
)
def test_a_setting_has_its_own_number_of_questions_unless_another_is_wanted(
    own: int | None, wanted: int | None, asked: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        ran.append(command)
        return SimpleNamespace(stdout="{}")

    monkeypatch.setattr(subprocess, "run", run)
    options = Namespace(
        reader="pocket", data=Path("data"), everyday=None, corpus=Path("corpus"), questions=wanted
    )
    quality.measure(quality.Setting("squad", "retrieved", 40, own), "auto", options)
    ((*_, last_but_one, last),) = ran
    assert (last if last_but_one == "--limit" else None) == asked
