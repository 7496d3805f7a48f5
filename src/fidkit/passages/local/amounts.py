"""How many passages get vectors, and what these take: asked before anything is imported that makes them."""

MOST_UNASKED = 2000
"""Passages of a corpus that gets vectors without being asked: under 20 seconds on two cores."""
A_SECOND = 100
"""Passages that a core of today encodes, about (MiniLM)."""
