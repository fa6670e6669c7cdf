"""Decode in worker processes."""
