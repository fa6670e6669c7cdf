"""Confidence intervals, tests of differences, and the bootstrap."""
