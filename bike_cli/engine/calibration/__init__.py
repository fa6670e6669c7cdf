"""What labelled clips say about the scores of a model: thresholds, scales and chances that mean something."""
