"""The fast way to read and to step on a GPU."""
