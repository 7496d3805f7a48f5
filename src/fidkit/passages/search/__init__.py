"""Engines that find passages."""
