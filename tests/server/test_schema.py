"""Requests of every kind that the schema allows and forbids, made up by Schemathesis."""

import re
import shutil
import subprocess

import pytest

from served import running

SEEDS, CASES, EXAMPLES = range(1, 11), 1_000, 60
_TESTED = re.compile(r"^\s*([\d,]+) generated", re.MULTILINE)
# What no schema says is refused with 422 (a limit of this server, a question of blanks, a condition that
# names nothing), and a kind of file that isn't read with 415.
SETTINGS = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 415, 422, "5xx"]
"""


@pytest.fixture(scope="module")
def changing(folder, tmp_path_factory):
    """A server whose documents change: files are added and taken out by made-up requests."""
    documents = shutil.copytree(folder, tmp_path_factory.mktemp("schema") / "documents")
    with running(documents) as client:
        yield client


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_no_request_breaks_what_the_schema_promises(changing, seed, tmp_path):
    """No answer of 500, and none that the schema doesn't describe."""
    command = shutil.which("schemathesis")
    if command is None:
        pytest.skip("needs schemathesis: pip install schemathesis")
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    base = str(changing.base_url).rstrip("/")
    # Events of indexing come for a while; what they are is tested elsewhere.
    done = subprocess.run(
        [
            command, "run", f"{base}/openapi.json", "--seed", str(seed), "--max-examples", str(EXAMPLES),
            "--checks", "all", "--exclude-path", "/v1/documents/events", "--request-timeout", "60",
            "--phases", "examples,coverage,fuzzing",
        ],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:]
    [tested] = _TESTED.findall(done.stdout)
    assert int(tested.replace(",", "")) >= CASES, done.stdout
    assert changing.get("/readyz").json() == {"status": "ready", "waiting": 0, "running": 0}
