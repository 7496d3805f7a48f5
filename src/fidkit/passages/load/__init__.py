"""From files to passages: which files, how each kind is read, where documents are cut."""
