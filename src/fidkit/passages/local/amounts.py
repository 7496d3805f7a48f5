"""What is done unasked, and what it takes: known before anything is imported that does it."""

MOST_UNASKED = 2000
"""Passages of a corpus that gets vectors without being asked: under 20 seconds on two cores."""
A_SECOND = 100
"""Passages that a core of today encodes, about (MiniLM)."""
MOST_COMPARED = 20_000
"""Passages of a corpus whose equal ones are counted without being asked: in half a second."""
