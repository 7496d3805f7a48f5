"""A corpus on this machine: one directory, built incrementally."""
