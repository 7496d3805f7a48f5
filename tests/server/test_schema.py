"""Requests of every kind that the schema allows and forbids, made up by Schemathesis."""

import re
import shutil
import subprocess

import pytest

from served import running

CASES = 10_000
_TESTED = re.compile(r"^\s*([\d,]+) generated", re.MULTILINE)


@pytest.mark.slow
def test_no_request_breaks_what_the_schema_promises(folder, tmp_path):
    """No answer of 500, and none that the schema doesn't describe."""
    command = shutil.which("schemathesis")
    if command is None:
        pytest.skip("needs schemathesis: pip install schemathesis")
    shutil.copytree(folder, tmp_path / "documents")
    tested, seed = 0, 0
    with running(tmp_path / "documents") as client:
        base = str(client.base_url).rstrip("/")
        while tested < CASES:
            seed += 1
            # Events of indexing come for half an hour; what they are is tested elsewhere.
            done = subprocess.run(
                [
                    command, "run", f"{base}/openapi.json", "--seed", str(seed), "--max-examples", "200",
                    "--checks", "all", "--exclude-path", "/v1/documents/events", "--request-timeout", "60",
                    "--phases", "examples,coverage,fuzzing",
                ],
                capture_output=True, text=True, cwd=tmp_path,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout[-20_000:]
            [found] = _TESTED.findall(done.stdout)
            tested += int(found.replace(",", ""))
        assert client.get("/readyz").json() == {"status": "ready", "waiting": 0, "running": 0}
