"""How files become passages: which files there are, a reader for each kind, and the table of them (`table`)."""
