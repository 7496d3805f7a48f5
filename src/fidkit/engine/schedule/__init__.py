"""Which questions are read together, and whether they have room."""
