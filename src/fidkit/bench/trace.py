"""A profile of our own subjects for a trace viewer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from fidkit.bench.subjects import Subject


@torch.inference_mode()
def write_trace(subjects: Sequence[Subject], tokens: int, path: Path, device: torch.device) -> None:
    """Run each warm subject once under the profiler; write a Chrome trace (`.json` or `.json.gz`).

    Encoding and decoding of each subject are named. A native kernel is one event or none: what it does
    inside isn't seen.
    """
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        for subject in subjects:
            with record_function(f"{subject.name}: encode"):
                subject.encode()
            with record_function(f"{subject.name}: decode"):
                subject.decode(tokens)
    path.parent.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(path))
