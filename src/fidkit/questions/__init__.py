"""Files of questions in the layouts of the field."""
