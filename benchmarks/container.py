"""The steps of deploy/Dockerfile, done without an engine: how large the image gets, and whether it answers.

    sudo python benchmarks/container.py [--extras serve,postgres,s3] [--machine x86_64]

Each step is done in a root of its own: a layer above this machine's files (overlayfs, in a namespace of
mounts), which stands for the image that the file begins with. This machine has to be of the same
distribution with the same Python, and the user root. What the last stage copies is counted. Then the image's
command is run as its user, without a compiler and without capabilities, until its health check is content,
and a question is asked. A row goes to benchmarks/results/container.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import rows

ROOT = Path(__file__).parents[1]
FILE = ROOT / "deploy" / "Dockerfile"
SIZED = "/opt/fidkit"
_COMPILERS = ("c++", "g++", "gcc", "cc", "clang", "clang++")
_FOLDER = "FIDKIT_CONTAINER_FOLDER"
"""The variable that tells the process with mounts of its own where to make the layer."""
_DOCUMENT = "Tea is grown in Kenya. The largest garden belongs to Wanjiru Kamau."


@dataclass
class Image:
    """What steps leave behind.

    Attributes:
        root: of its files.
        environment: of its steps.
        folder: where they are done.
        said: USER, HEALTHCHECK, ENTRYPOINT and CMD.
    """

    root: Path
    environment: dict[str, str]
    folder: str = "/"
    said: dict[str, str] = field(default_factory=dict)

    def run(self, command: str) -> None:
        """A step, in a shell."""
        subprocess.run(["chroot", self.root, "/bin/sh", "-ec", f"cd {self.folder}; {command}"],
                       env=self.environment, check=True)  # fmt: skip

    def path(self, inside: str) -> Path:
        """Where a path of the image is here."""
        return self.root / os.path.normpath(os.path.join(self.folder, inside)).lstrip("/")


def steps(file: Path) -> Iterator[tuple[str, str]]:
    """Instructions of a Dockerfile, with what follows them."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            yield name, rest.strip()


def build(image: Image, given: dict[str, str]) -> None:
    """Do all steps. Stages share one root: what one copies from another is where it was made."""
    for name, rest in steps(FILE):
        if name == "ARG":
            key, _, default = rest.partition("=")
            image.environment[key] = given.get(key, default)
        elif name == "ENV":
            for one in shlex.split(rest):
                key, _, value = one.partition("=")
                image.environment[key] = value.replace("$PATH", image.environment["PATH"])
        elif name == "WORKDIR":
            image.folder = rest
            image.path(".").mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            _copy(image, rest.split())
        elif name == "RUN":
            image.run(rest)
        elif name not in ("FROM", "EXPOSE"):
            image.said[name] = rest


def _copy(image: Image, words: list[str]) -> None:
    if words[0].startswith("--from="):
        assert words[1] == words[2], "a path of another stage under another name"
        return
    *sources, to = words
    target = image.path(to)
    if len(sources) == 1 and (ROOT / sources[0]).is_dir():
        sources = [f"{sources[0]}/."]
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-r", *sources, target], cwd=ROOT, check=True)


def measured(image: Image, extras: str) -> dict[str, Any]:
    """The size of what is copied into the last stage, and whether it answers as its user."""
    image.run(f"rm -rf /src /wheels {' '.join(f'/usr/bin/{name}' for name in _COMPILERS)}")
    size = _bytes(image.path(SIZED))
    sizes = {
        name: _bytes(image.path(SIZED) / "lib" / f"python{_python()}" / "site-packages" / name)
        for name in ("torch", "fidkit", "ray", "pyarrow")
    }
    return {"of": "image", "extras": extras, "bytes": size, "sizes": sizes, **_answers(image)}


def _answers(image: Image) -> dict[str, Any]:
    """Seconds from the command to a health check that is content, and what is answered."""
    image.path("/documents").mkdir()
    image.path("/documents/tea.txt").write_text(_DOCUMENT)
    user = image.said["USER"]
    inside = [
        *("chroot", str(image.root), "setpriv", "--reuid", user, "--regid", user, "--clear-groups"),
        *("--bounding-set=-all", "--no-new-privs", "sh", "-c", f'cd {image.folder}; exec "$@"', "sh"),
    ]
    environment = {**image.environment, "HOME": "/var/lib/fidkit"}
    key = subprocess.run(
        [*inside, *json.loads(image.said["ENTRYPOINT"]), "keys", "add", "ada", "--to", "keys"],
        env=environment, stdout=subprocess.PIPE, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    command = [*json.loads(image.said["ENTRYPOINT"]), *json.loads(image.said["CMD"])]
    command[command.index("--keys") + 1] = "keys"
    healthy = json.loads(image.said["HEALTHCHECK"].partition("CMD")[2])
    begun = time.perf_counter()
    with subprocess.Popen([*inside, *command], env=environment) as server:
        try:
            while subprocess.run([*inside, *healthy], env=environment, stderr=subprocess.DEVNULL).returncode:
                assert server.poll() is None, "the server ended"
                assert time.perf_counter() - begun < 120, "the health check isn't content"
            ready = time.perf_counter() - begun
            answer = httpx.post(
                "http://127.0.0.1:8080/v1/answer", json={"question": "where is tea grown?"}, timeout=60,
                headers={"Authorization": f"Bearer {key}"},
            )  # fmt: skip
            assert answer.json()["guess"] == "Kenya", answer.text
        finally:
            server.terminate()
    return {"healthy_s": ready, "answer": answer.json()["guess"]}


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*")) if folder.is_dir() else 0


def _python() -> str:
    return next(rest.partition("=")[2] for name, rest in steps(FILE) if name == "ARG")


def _layered(folder: Path) -> Path:
    """A root whose files are this machine's until they are changed."""
    upper, work, root = (folder / name for name in ("upper", "work", "root"))
    for made in (upper, work, root):
        made.mkdir()
    layers = f"lowerdir=/,upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, root], check=True)
    for bound in ("proc", "dev"):
        subprocess.run(["mount", "--rbind", f"/{bound}", root / bound], check=True)
    return root


def _in_layer(folder: Path, extras: str, machine: str) -> dict[str, Any]:
    """Build the image in a layer below a folder, and measure it."""
    keep = {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "SSL_"))}
    image = Image(
        _layered(folder), {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **keep}
    )
    image.run(
        f"for name in python python3; do ln -sf /usr/bin/python{_python()} /usr/local/bin/$name; done; "
        "printf '#!/bin/sh\\nexec python -m pip \"$@\"\\n' > /usr/local/bin/pip; "
        "chmod +x /usr/local/bin/pip; rm -rf /opt/fidkit /wheels"
    )
    build(image, {"EXTRAS": extras, "KERNELS": machine})
    return measured(image, extras)


def main() -> None:
    parser = argparse.ArgumentParser(description="Do the steps of deploy/Dockerfile.")
    parser.add_argument("--extras", default="serve,postgres,s3")
    parser.add_argument("--machine", default="x86_64")
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "container.jsonl", help="the row goes here")
    options = parser.parse_args()
    if _FOLDER in os.environ:
        row = _in_layer(Path(os.environ[_FOLDER]), options.extras, options.machine)
        rows.append(options.to, rows.row("container", **row))
        return
    # Mounts are seen by the process that makes them alone, and end with it: what is removed here afterwards
    # are the layer's files, and never this machine's own that were mounted there.
    with tempfile.TemporaryDirectory(prefix="fidkit-image-") as folder:
        command = ["unshare", "--mount", sys.executable, *sys.argv]
        done = subprocess.run(command, env={**os.environ, _FOLDER: folder}, check=False)
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
