"""Measurements of speed and memory; each compares bike with a baseline in the same run."""
