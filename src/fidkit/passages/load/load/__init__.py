"""How files become passages: a reader for each kind of file, and the table of them (`table.py`)."""
