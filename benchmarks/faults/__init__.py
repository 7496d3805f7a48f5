"""Faults of what a server stands on, made while clients ask it."""
