"""`fidkit doctor`: what is installed, what it runs on, what is missing and the command that mends it."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from fidkit import __version__, assets
from fidkit.errors import FidkitError

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)[^;]*(?:;.*extra\s*==\s*['\"](?P<extra>[\w-]+)['\"])?")
_INTERNAL_EXTRAS = {"dev"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Show versions, devices, and what is missing with the command that mends it."""
    report = examine()
    typer.echo(json.dumps(report) if as_json else _text(report))
    if not report["ok"]:
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """All that the command shows; `ok` is false when something is missing that fidkit can't do without."""
    core, extras = _requirements()
    packages = {name: _version(name) for name in core}
    bundled = {
        "reader": _place(assets.reader),
        "vocabulary": _place(assets.tokenizer_file),
        "documents": _place(assets.documents),
    }
    hardware = _hardware(torch_installed=_version("torch") is not None)
    answers = _version("torch") is not None or not hardware["native_kernels"].startswith(("off", "left"))
    broken = not answers or any(value is None for value in [*packages.values(), *bundled.values()])
    return {
        "ok": not broken,
        "fidkit": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {**packages, "torch": _version("torch")},
        **hardware,
        **_disk(),
        "bundled": bundled,
        "missing": _missing(packages, bundled, extras),
    }


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
    """Packages of the core, and of each extra, as the installed metadata lists them."""
    from importlib import metadata  # with what it imports, a tenth of the time to `fidkit --help`

    core: list[str] = []
    extras: dict[str, list[str]] = {}
    for line in metadata.requires("fidkit") or []:
        match = _REQUIREMENT.match(line)
        if match is None:
            continue
        name, extra = match["name"], match["extra"]
        if extra is None:
            core.append(name)
        elif extra not in _INTERNAL_EXTRAS:
            extras.setdefault(extra, []).append(name)
    return core, extras


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _place(find: Callable[[], Path]) -> str | None:
    try:
        return str(find())
    except FidkitError:
        return None


def _hardware(*, torch_installed: bool) -> dict[str, Any]:
    devices = [{"name": "cpu", "what": platform.processor() or platform.machine()}]
    from fidkit.native import build
    from fidkit.native.threads import threads

    if not torch_installed:
        return {"devices": devices, "threads": threads(), "native_kernels": build.state()}
    import torch

    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        devices.append({"name": f"cuda:{index}", "what": f"{card.name}, {card.total_memory / 1e9:.0f} GB"})
    return {
        "devices": devices,
        **_automatic(),
        "threads": torch.get_num_threads(),
        "native_kernels": build.state(),
    }


def _automatic() -> dict[str, str]:
    """What `--device auto` and `--precision auto` come to here."""
    from fidkit.devices import choose_device
    from fidkit.engine.runner import multiplies_bfloat16

    device = choose_device("auto")
    return {"device": str(device), "precision": "bfloat16" if multiplies_bfloat16(device) else "float32"}


def _disk() -> dict[str, Any]:
    from fidkit.passages.local.layout import default_location

    home = default_location([]).parents[1]
    existing = next(path for path in (home, *home.parents) if path.exists())
    return {
        "home": str(home),
        "home_writable": existing.is_dir() and os.access(existing, os.W_OK | os.X_OK),
        "disk_free_bytes": shutil.disk_usage(existing).free,
    }


def _missing(
    packages: dict[str, str | None], bundled: dict[str, str | None], extras: dict[str, list[str]]
) -> list[dict[str, Any]]:
    """What isn't there: whether fidkit needs it, and what to type to get it."""
    again = "pip install --force-reinstall fidkit"
    absent = [(name, f"pip install {name}") for name, version in packages.items() if version is None]
    absent += [(f"bundled {name}", again) for name, place in bundled.items() if place is None]
    optional = [
        (f"{', '.join(names)} ({extra})", f"pip install 'fidkit[{extra}]'")
        for extra, wanted in extras.items()
        if (names := [name for name in wanted if _version(name) is None])
    ]
    return [
        {"what": what, "needed": needed, "mend": mend}
        for needed, found in ((True, absent), (False, optional))
        for what, mend in found
    ]


def _text(report: dict[str, Any]) -> str:
    rows = [("fidkit", report["fidkit"]), ("python", f"{report['python']} on {report['platform']}")]
    rows += [(name, version or "missing") for name, version in report["packages"].items()]
    rows += [(device["name"], device["what"]) for device in report["devices"]]
    if "device" in report:
        rows += [("auto takes", f"--device {report['device']} --precision {report['precision']}")]
    rows += [("threads", str(report["threads"])), ("native kernels", report["native_kernels"])]
    said = f"{report['disk_free_bytes'] / 1e9:.1f} GB free"
    if not report["home_writable"]:
        said = "can't be written; set FIDKIT_HOME to a directory that can"
    rows += [("home", f"{report['home']} ({said})")]
    rows += [(name, place or "missing") for name, place in report["bundled"].items()]
    for item in report["missing"]:
        rows.append(("missing" if item["needed"] else "optional", f"{item['what']}: {item['mend']}"))
    return "\n".join(f"{name:<16} {value}" for name, value in rows)
