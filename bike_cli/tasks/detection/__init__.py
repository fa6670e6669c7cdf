"""Evaluate detected segments: temporal localisation metrics with confidence intervals."""
