"""How many replicas of a server a fleet needs: by the work that waits, as Ray Serve asks for it."""

from __future__ import annotations

from typing import Any

SECONDS_AHEAD = "seconds_ahead"
"""What each replica reports: how long what waits there will take."""
TARGET_SECONDS = 2.0


class BySecondsAhead:
    """As many replicas as read within `target_seconds` what waits in all of them.

    Tokens wait, and not questions: one with a hundred passages is a hundred times the work of one with a
    single passage. The scheduler of a replica counts characters, which tokens are made of, and knows how long
    one takes there. So the target means the same for any reader, on any machine.

    Ray keeps the number within the bounds of the deployment, and waits for its delays before it changes it.

    Args:
        target_seconds: of work that may wait in a replica.
    """

    def __init__(self, target_seconds: float = TARGET_SECONDS) -> None:
        self._target = target_seconds

    def __call__(self, context: Any) -> tuple[float, dict[str, Any]]:
        """The number of replicas, with nothing to be remembered.

        Args:
            context: Ray's `AutoscalingContext`.
        """
        reported = (context.aggregated_metrics or {}).get(SECONDS_AHEAD) or {}
        if not reported:  # none has said anything yet
            return context.target_num_replicas, {}
        return sum(reported.values()) / self._target, {}
