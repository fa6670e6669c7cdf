"""Evaluation: scores, metrics, confidence intervals, protocols, and the report."""
