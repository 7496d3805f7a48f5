"""Programs of tests in C++: compiled and run."""

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from fidkit.native import build

RACES = ["-fsanitize=thread"]
LONGEST_S = 1200


def compiler(sanitizer: Sequence[str], tmp_path: Path) -> list[str]:
    """Skips the test where there is no compiler, or a program with this sanitizer doesn't come to its end."""
    try:
        found = build._compiler()
    except build.BuildError as error:
        pytest.skip(str(error))
    source, program = tmp_path / "nothing.cpp", tmp_path / "nothing"
    source.write_text("int main() { return 0; }\n")
    for command in ([*found, *sanitizer, str(source), "-o", str(program)], [str(program)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
            pytest.skip(f"no {sanitizer[0]}: {said[0]}")
    return found


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=LONGEST_S, check=False
    )
    said = f"{shlex.join(map(str, command))} ended with {done.returncode}\n{done.stdout}{done.stderr[:6000]}"
    assert done.returncode == 0, said
    return done.stdout
