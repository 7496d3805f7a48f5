"""How files become passages: which files there are, and how each kind of them is read (`table`)."""
