"""A training from its start to its end: the loop, its checkpoints, its log and its health."""
