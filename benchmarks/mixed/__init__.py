"""A folder of documents of many kinds, made of public-domain prose and the project's own files."""
