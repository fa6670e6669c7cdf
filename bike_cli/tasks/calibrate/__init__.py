"""Calibration: scores of labelled clips in, a threshold, a scale and a curve out."""
