"""Programs of tests in C++: compiled and run."""

import hashlib
import shlex
import subprocess
import tempfile
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


def program(config: pytest.Config, cxx: Sequence[str], flags: Sequence[str], source: Path) -> Path:
    """A source compiled; pytest's cache keeps it until the source, the kernels or the compiler change.

    With sanitizers, compiling takes far longer than what is run then.
    """
    own = hashlib.sha256(shlex.join([*cxx, *flags, str(source)]).encode()).hexdigest()[:16]
    sources = [*sorted(build.SOURCE.parent.glob("*.[hc]*")), *sorted(source.parent.glob("*.h")), source]
    parts = [*(path.read_bytes() for path in sources), run(*cxx, "--version").encode(), build._cpu()]
    made_of = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    cache = getattr(config, "cache", None)
    folder = Path(cache.mkdir("programs")) if cache else Path(tempfile.mkdtemp())
    path = folder / f"{own}-{made_of}"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            run(*cxx, *flags, source, "-o", Path(scratch) / "program")
            for former in folder.glob(f"{own}-*"):
                former.unlink(missing_ok=True)
            (Path(scratch) / "program").rename(path)
    return path
