"""A corpus whose catalogue and log of changes are a PostgreSQL database."""
