"""Whether everything that is to be measured fits into memory together."""

from __future__ import annotations

from collections.abc import Sequence

from fidkit.bench.subjects import Subject
from fidkit.cost import Workload, largest
from fidkit.errors import UsageError


def check_fit(subjects: Sequence[Subject], workload: Workload, available: int) -> None:
    """Refuse what doesn't fit, before any of it is allocated.

    Args:
        subjects: all are in memory at once, but run one after the other.
        workload: of each.
        available: bytes.

    Raises:
        UsageError: by how much it doesn't fit, and the largest batch, or number of passages, that does.
    """
    needed = needed_bytes(subjects, workload)
    if needed <= available:
        return
    batch = f"{workload.questions:,} x {workload.passages:,} passages"
    names = ", ".join(subject.name for subject in subjects)
    sizes = (f"{size / 1e9:,.2f} GB" for size in (needed, needed - available, available))
    raise UsageError(
        f"{batch} don't fit: {next(sizes)} needed for {names}, "
        f"{next(sizes)} more than the {next(sizes)} available; {_remedy(subjects, workload, available)}"
    )


def needed_bytes(subjects: Sequence[Subject], workload: Workload) -> int:
    """All weights, and the largest of what runs need on top."""
    needs = [subject.needs(workload) for subject in subjects]
    return sum(need.weights for need in needs) + max(need.working for need in needs)


def _remedy(subjects: Sequence[Subject], workload: Workload, available: int) -> str:
    def fits(questions: int, passages: int) -> bool:
        lengths = workload.passage_tokens
        changed = workload.replace(
            questions=questions,
            passages=passages,
            passage_tokens=lengths if isinstance(lengths, int) else lengths[:passages],
        )
        return needed_bytes(subjects, changed) <= available

    if batch := largest(lambda n: fits(n, workload.passages), workload.questions):
        return f"the largest batch that does is {batch:,}"
    if passages := largest(lambda n: fits(1, n), workload.passages):
        return f"not even one question does; the most passages that fit are {passages:,}, with --batch 1"
    return "not even one passage does; take fewer or smaller presets, or fewer peers"
